"""alice offers a patient to bob, who accepts, declines or lets the offer lapse."""

import datetime
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.delegations.models import Delegation, Notice
from accounts.models import User
from audit.models import AccessLog
from conftest import LoggedInClient, logged_in
from doctors.models import Doctor
from healthcare.tests.concurrent_calls import call_concurrently, sorted_statuses
from healthcare.tests.live import LiveServer
from mappings.erasure import erase_user
from mappings.models import Mapping
from patients.erasure import erase
from patients.legal_hold import set_hold
from patients.merges import merge
from patients.models import Patient, PatientMerge, PatientTransfer
from patients.tests.factories import make_patient


@pytest.fixture
def patient(alice: User) -> Patient:
    return make_patient(alice, name="Zebulon Quinn", phone="080 5550 0100")


def offer(client: LoggedInClient, patient: Patient, to: str = "bob", **headers: str) -> Any:
    return client.post(f"/api/patients/{patient.pk}/transfer/", {"to": to}, headers=headers)


def named(user: User) -> dict[str, Any]:
    return {"id": user.pk, "username": user.username, "name": user.name}


def notices(user: User) -> list[tuple[str, int | None]]:
    return list(Notice.objects.filter(user=user).order_by("pk").values_list("kind", "by"))


def test_an_accepted_patient_belongs_to_the_other_side(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User, patient: Patient
) -> None:
    answer = offer(as_alice, patient)
    expires_at = PatientTransfer.objects.get().expires_at
    assert expires_at - timezone.now() > datetime.timedelta(days=6, hours=23)
    given = {
        "id": answer.json()["id"],
        "direction": "given",
        "from": named(alice),
        "to": named(bob),
        "state": "pending",
        "expires_at": expires_at.isoformat().replace("+00:00", "Z"),
    }
    assert (answer.status_code, answer.json()) == (202, given)
    assert as_alice.get("/api/transfers/").json() == [given]
    received = given | {"direction": "received"}
    assert as_bob.get("/api/transfers/").json() == [received]
    assert as_bob.get(f"/api/patients/{patient.pk}/").status_code == 404
    accepted = as_bob.post(f"/api/transfers/{given['id']}/accept/")
    assert (accepted.status_code, accepted.json()) == (200, received | {"state": "accepted"})
    assert as_alice.get(f"/api/patients/{patient.pk}/").status_code == 404
    assert as_alice.get("/api/patients/").json() == []
    read = as_bob.get(f"/api/patients/{patient.pk}/").json()
    assert (read["created_by"], read["version"], read["name"]) == (bob.pk, 2, "Zebulon Quinn")
    assert [row["id"] for row in as_bob.get("/api/patients/?search=zebulon").json()] == [patient.pk]
    assert as_alice.get("/api/patients/?search=zebulon").json() == []
    assert [row["id"] for row in as_bob.get("/api/patients/?search=08055500100").json()] == [patient.pk]
    assert as_alice.get("/api/transfers/").json() == [given | {"state": "accepted"}]
    assert (notices(bob), notices(alice)) == ([("transfer_offered", alice.pk)], [("transfer_accepted", bob.pk)])
    assert [*AccessLog.objects.filter(action="transfer.accept").values_list("actor", "patient_ids", "basis")] == [
        (bob.pk, [patient.pk], "owner")
    ]


def test_what_belongs_to_the_patient_goes_along(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User, patient: Patient
) -> None:
    doctor = Doctor.objects.create(created_by=alice, name="Dr. Rao")
    first, second = (make_patient(alice, name="Zebulon") for _ in range(2))
    mapping = Mapping.objects.create(created_by=alice, patient=first, doctor=doctor)
    merge(second, first)
    merge(patient, second)
    other = make_patient(alice, name="Zebulon Other")
    staying = Mapping.objects.create(created_by=alice, patient=other, doctor=doctor)
    transfer = offer(as_alice, patient).json()["id"]
    assert as_bob.post(f"/api/transfers/{transfer}/accept/").status_code == 200
    assert {*Patient.objects.owned_by(bob).values_list("pk", flat=True)} == {patient.pk, first.pk, second.pk}
    assert [*PatientMerge.objects.values_list("created_by", flat=True)] == [bob.pk] * 2
    assert [row["id"] for row in as_bob.get("/api/mappings/").json()] == [mapping.pk]
    assert [row["id"] for row in as_alice.get("/api/mappings/").json()] == [staying.pk]
    assert [row["name"] for row in as_bob.get(f"/api/patients/{patient.pk}/doctors/").json()] == ["Dr. Rao"]
    assert as_bob.post(f"/api/patients/{patient.pk}/unmerge/", {"duplicate": second.pk}).status_code == 200
    assert as_bob.get(f"/api/patients/{second.pk}/").status_code == 200
    for path in (f"patients/{first.pk}/history/", f"patients/{second.pk}/", f"assignments/{mapping.pk}/"):
        assert as_alice.get(f"/api/{path}").status_code == 404, path


def test_nothing_but_the_transfer_itself_tells_the_other_side_of_the_patient(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User, patient: Patient
) -> None:
    offered = offer(as_alice, patient).json()
    transfer = offered["id"]
    for answer in (as_bob.get("/api/transfers/"), as_bob.post(f"/api/transfers/{transfer}/decline/")):
        text = answer.content.decode()
        assert "Zebulon" not in text
        assert "patient" not in text
    about = Notice.objects.values_list("about", flat=True).get(user=bob)
    assert about == {
        "id": transfer,
        "from": named(alice),
        "to": named(bob),
        "expires_at": offered["expires_at"],
    }


@pytest.mark.parametrize(("verb", "who", "state"), [("decline", "bob", "declined"), ("withdraw", "alice", "withdrawn")])
def test_a_declined_or_withdrawn_patient_stays(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User, patient: Patient, verb: str, who: str,
    state: str,
) -> None:  # fmt: skip
    transfer = offer(as_alice, patient).json()["id"]
    answer = {"alice": as_alice, "bob": as_bob}[who].post(f"/api/transfers/{transfer}/{verb}/")
    assert (answer.status_code, answer.json()["state"]) == (200, state)
    assert as_alice.get(f"/api/patients/{patient.pk}/").json()["version"] == 1
    notified, actor = {"decline": (alice, bob), "withdraw": (bob, alice)}[verb]
    assert notices(notified)[-1] == (f"transfer_{state}", actor.pk)
    for again, client in (("accept", as_bob), ("decline", as_bob), ("withdraw", as_alice)):
        assert client.post(f"/api/transfers/{transfer}/{again}/").status_code == 409
    assert offer(as_alice, patient).status_code == 202


def test_a_side_that_may_not_do_it_finds_no_transfer(
    as_alice: LoggedInClient, as_bob: LoggedInClient, make_user: Any, patient: Patient
) -> None:
    carol = logged_in(make_user("carol"))
    transfer = offer(as_alice, patient).json()["id"]
    missing = carol.post("/api/transfers/999999/accept/").json()
    for client, verbs in ((as_alice, ["accept", "decline"]), (as_bob, ["withdraw"])):
        for verb in verbs:
            assert client.post(f"/api/transfers/{transfer}/{verb}/").status_code == 404
    for verb in ("accept", "decline", "withdraw"):
        answer = carol.post(f"/api/transfers/{transfer}/{verb}/")
        assert answer.status_code == 404
        assert {**answer.json(), "request_id": ""} == {**missing, "request_id": ""}
    assert carol.get("/api/transfers/").json() == []
    assert PatientTransfer.objects.get().state == "pending"


def test_a_second_pending_transfer_is_refused(
    as_alice: LoggedInClient, make_user: Any, bob: User, patient: Patient
) -> None:
    make_user("carol")
    assert offer(as_alice, patient).status_code == 202
    answer = offer(as_alice, patient, to="carol")
    assert (answer.status_code, answer.json()["detail"]) == (
        409,
        "A transfer of this patient is pending; withdraw that one first.",
    )
    assert PatientTransfer.objects.count() == 1


def test_a_transfer_lapses_after_seven_days(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User, patient: Patient
) -> None:
    transfer = offer(as_alice, patient).json()["id"]
    PatientTransfer.objects.update(expires_at=timezone.now())
    assert as_bob.post(f"/api/transfers/{transfer}/accept/").status_code == 409
    assert as_alice.get(f"/api/patients/{patient.pk}/").status_code == 200
    assert [row["state"] for row in as_bob.get("/api/transfers/").json()] == ["lapsed"]
    assert PatientTransfer.objects.get().state == "lapsed"
    assert notices(bob)[-1] == notices(alice)[-1] == ("transfer_lapsed", None)
    assert len(notices(alice)) == 1
    as_alice.get("/api/transfers/")
    assert len(notices(alice)) == 1, "notified once"


@pytest.mark.parametrize("reader", ["giver", "manager of the clinic"])
def test_listing_notices_adds_that_of_a_lapse(
    as_alice: LoggedInClient,
    as_bob: LoggedInClient,
    alice: User,
    bob: User,
    make_user: Any,
    patient: Patient,
    reader: str,
) -> None:
    clinic = make_user("sunrise", is_clinic=True, email=None, password=None)
    Delegation.objects.create(owner=clinic, delegate=bob, role="manage")
    transfer = offer(as_alice, patient, to="sunrise").json()["id"]
    client = as_alice if reader == "giver" else as_bob
    assert "transfer_lapsed" not in [notice["kind"] for notice in client.get("/api/notices/").json()]
    PatientTransfer.objects.update(expires_at=timezone.now())
    for _ in range(2):
        lapses = [notice for notice in client.get("/api/notices/").json() if notice["kind"] == "transfer_lapsed"]
        assert [(notice["by"], notice["about"]["id"]) for notice in lapses] == [(None, transfer)]


@pytest.mark.parametrize("rows", [1, 20])
def test_the_list_takes_two_statements(as_alice: LoggedInClient, alice: User, bob: User, rows: int) -> None:
    for _ in range(rows):
        PatientTransfer.objects.create(patient=make_patient(alice), from_owner=alice, to_owner=bob)
    with CaptureQueriesContext(connection) as queries:
        assert len(as_alice.get("/api/transfers/").json()) == rows
    executed = [query["sql"] for query in queries if "SAVEPOINT" not in query["sql"]]
    assert ["accounts_loginsession" in executed[0], "patients_patienttransfer" in executed[1]] == [True, True]
    assert len(executed) == 2, executed


def test_an_expired_transfer_does_not_stop_another(as_alice: LoggedInClient, bob: User, patient: Patient) -> None:
    offer(as_alice, patient)
    PatientTransfer.objects.update(expires_at=timezone.now())
    assert offer(as_alice, patient).status_code == 202
    assert [*PatientTransfer.objects.order_by("pk").values_list("state", flat=True)] == ["lapsed", "pending"]


@pytest.mark.parametrize(
    ("to", "code"),
    [("nobody", "does_not_exist"), ("alice", "invalid"), ("", "blank"), ("alice@example.org", "invalid")],
)
def test_only_another_owner_can_be_named(as_alice: LoggedInClient, patient: Patient, to: str, code: str) -> None:
    answer = offer(as_alice, patient, to=to)
    assert answer.status_code == 400
    assert [(error["pointer"], error["code"]) for error in answer.json()["errors"]] == [("/to", code)]


def test_an_accepted_transfer_says_that_it_is_settled(
    as_alice: LoggedInClient, as_bob: LoggedInClient, patient: Patient
) -> None:
    transfer = offer(as_alice, patient).json()["id"]
    answers = [as_bob.post(f"/api/transfers/{transfer}/accept/") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 409]
    assert answers[1].json()["detail"].startswith("This transfer is settled: ")


def test_an_unknown_owner_is_told_how_to_name_one(as_alice: LoggedInClient, patient: Patient) -> None:
    detail = "There is no such user; write a username or an e-mail."
    assert offer(as_alice, patient, to="nobody").json()["errors"] == [
        {"pointer": "/to", "code": "does_not_exist", "detail": detail}
    ]


def test_unknown_names_are_limited(as_alice: LoggedInClient, bob: User, patient: Patient, settings: Any) -> None:
    settings.THROTTLE_SCALE = 1
    statuses = [offer(as_alice, patient, to=f"nobody{number}").status_code for number in range(21)]
    assert statuses == [400] * 20 + [429]
    assert offer(as_alice, patient).status_code == 429, "a known name would tell that the others are unknown"


def test_only_an_active_patient_of_the_owner_is_offered(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User, patient: Patient
) -> None:
    assert offer(as_bob, patient, to="alice").status_code == 404
    duplicate = make_patient(alice)
    merge(patient, duplicate)
    assert offer(as_alice, duplicate).status_code == 410
    as_alice.delete(f"/api/patients/{patient.pk}/")
    assert offer(as_alice, patient).status_code == 404


def test_a_held_patient_is_not_transferred(
    as_alice: LoggedInClient, as_bob: LoggedInClient, bob: User, patient: Patient
) -> None:
    transfer = offer(as_alice, patient).json()["id"]
    set_hold(patient.pk, reason="case 2026-7")
    assert as_bob.post(f"/api/transfers/{transfer}/accept/").status_code == 409
    as_alice.post(f"/api/transfers/{transfer}/withdraw/")
    answer = offer(as_alice, patient)
    assert (answer.status_code, "legal hold" in answer.json()["detail"]) == (409, True)
    assert Patient.objects.get().created_by_id == patient.created_by_id


@pytest.mark.parametrize("change", ["deleted", "merged", "given to another"])
def test_a_patient_who_changed_state_since_is_not_accepted(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, make_user: Any, bob: User, patient: Patient,
    change: str,
) -> None:  # fmt: skip
    transfer = offer(as_alice, patient).json()["id"]
    if change == "deleted":
        as_alice.delete(f"/api/patients/{patient.pk}/")
    elif change == "merged":
        merge(make_patient(alice), patient)
    else:
        Patient.objects.filter(pk=patient.pk).update(created_by=make_user("carol"))
    answer = as_bob.post(f"/api/transfers/{transfer}/accept/")
    assert (answer.status_code, answer.json()["detail"]) == (
        409,
        "This patient cannot be transferred as it is now; ask the owner.",
    )
    assert not Patient.objects.owned_by(bob).exists()


@pytest.mark.parametrize("role", ["read", "write", "manage"])
def test_delegates_with_the_role_manage_transfer_for_the_owner(
    as_alice: LoggedInClient,
    as_bob: LoggedInClient,
    alice: User,
    bob: User,
    make_user: Any,
    patient: Patient,
    role: str,
) -> None:
    clinic = make_user("sunrise", is_clinic=True, email=None, password=None)
    for owner in (alice, clinic):
        Delegation.objects.create(owner=owner, delegate=bob, role=role)
    offered = offer(as_bob, patient, to="sunrise", x_acting_for="alice")
    if role != "manage":
        assert (offered.status_code, offered.json()["code"]) == (403, "role_too_low")
        transfer = offer(as_alice, patient, to="sunrise").json()["id"]
        refused = as_bob.post(f"/api/transfers/{transfer}/accept/", headers={"x-acting-for": "sunrise"})
        assert (refused.status_code, refused.json()["code"]) == (403, "role_too_low")
        assert len(as_bob.get("/api/transfers/", headers={"x-acting-for": "sunrise"}).json()) == 1
        return
    assert (offered.status_code, offered["X-Acting-For"]) == (202, "alice")
    assert as_bob.get("/api/transfers/").json() == []
    path = f"/api/transfers/{offered.json()['id']}/accept/"
    assert as_bob.post(path).status_code == 404
    assert as_bob.post(path, headers={"x-acting-for": "sunrise"}).status_code == 200
    assert Patient.objects.get().created_by == clinic
    entry = as_bob.get(f"/api/patients/{patient.pk}/history/", headers={"x-acting-for": "sunrise"}).json()[0]
    assert (entry["actor"], entry["changes"]) == (bob.pk, {"created_by": [alice.pk, clinic.pk]})
    assert AccessLog.objects.get(action="transfer.accept").basis == "delegate"
    assert notices(alice) == [("transfer_offered", bob.pk), ("transfer_accepted", bob.pk)]
    assert notices(bob) == [], "of one's own acts"


def test_the_former_owners_stored_answers_are_withdrawn(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, make_user: Any, bob: User
) -> None:
    """Those of a delegate too, those to requests that only read, and no others."""
    ben = logged_in(make_user("ben"))
    Delegation.objects.create(owner=alice, delegate=User.objects.get(username="ben"), role="manage")
    body = {"name": "Zebulon Quinn"}
    key = as_alice.post("/api/patients/", body, headers={"idempotency-key": "a"}).json()["id"]
    doctor = as_alice.post("/api/doctors/", {"name": "Dr. Rao"}).json()["id"]
    calls = [
        (as_alice, "/api/patients/", body, {"idempotency-key": "a"}),
        (as_alice, f"/api/patients/{key}/restore/", None, {"idempotency-key": "b"}),
        (as_alice, "/api/mappings/", {"patient": key, "doctor": doctor}, {"idempotency-key": "c"}),
        (ben, f"/api/patients/{key}/restore/", None, {"idempotency-key": "d", "x-acting-for": "alice"}),
    ]
    others = [
        (as_alice, "/api/patients/", {"name": "Other"}, {"idempotency-key": "e"}),
        # bob's client happens to use the request id of a request of alice.
        (as_bob, "/api/patients/", {"name": "Bob's"}, {"idempotency-key": "a", "x-request-id": "same"}),
    ]
    as_alice.patch(f"/api/patients/{key}/", {"address": "Pune"}, headers={"x-request-id": "same"})
    first = [client.post(path, sent, headers=headers) for client, path, sent, headers in calls + others]
    assert {answer.status_code for answer in first} <= {200, 201}
    transfer = offer(as_alice, Patient.objects.get(pk=key)).json()["id"]
    assert as_bob.post(f"/api/transfers/{transfer}/accept/").status_code == 200
    again = [client.post(path, sent, headers=headers) for client, path, sent, headers in calls + others]
    assert [answer.status_code for answer in again] == [404, 404, 404, 404, 201, 201]
    assert [answer.get("Idempotency-Replayed") for answer in again] == [None] * 4 + ["true"] * 2
    missing = as_alice.get("/api/patients/999999/").json()
    for answer in again[:4]:
        assert {**answer.json(), "request_id": ""} == {**missing, "request_id": ""}
    assert Patient.objects.filter(name="Zebulon Quinn").count() == 1, "nothing was executed again"


def test_a_repeated_acceptance_with_a_key_is_answered_again(
    as_alice: LoggedInClient, as_bob: LoggedInClient, bob: User, patient: Patient
) -> None:
    path = f"/api/transfers/{offer(as_alice, patient).json()['id']}/accept/"
    first, again = (as_bob.post(path, headers={"idempotency-key": "k"}) for _ in range(2))
    assert (first.status_code, again.status_code, again.json()) == (200, 200, first.json())
    assert Patient.objects.get().version == 2


def test_an_erasure_takes_the_transfers_along(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User, patient: Patient
) -> None:
    transfer = offer(as_alice, patient).json()["id"]
    assert as_bob.post(f"/api/transfers/{transfer}/accept/").status_code == 200
    lapsing = make_patient(bob)
    PatientTransfer.objects.create(patient=lapsing, from_owner=bob, to_owner=alice)
    receipt = erase(patient.pk, reason="asked for", account="root")
    assert receipt.counts["patients_patienttransfer"] == 1
    assert erase_user(alice, reason="left", account="root").counts["patients_patienttransfer"] == 1
    assert not PatientTransfer.objects.exists()
    assert as_bob.get("/api/transfers/").json() == []


def test_the_access_log_goes_along_and_names_who_accepted(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User, patient: Patient
) -> None:
    as_alice.get(f"/api/patients/{patient.pk}/")
    transfer = offer(as_alice, patient).json()["id"]
    as_bob.post(f"/api/transfers/{transfer}/accept/")
    log = as_bob.get(f"/api/patients/{patient.pk}/access-log/").json()
    assert [(entry["actor"], entry["action"], entry["outcome"]) for entry in log] == [
        (bob.pk, "transfer.accept", 200),
        (alice.pk, "patient.transfer", 202),
        (alice.pk, "patient.retrieve", 200),
    ]
    assert as_alice.get(f"/api/patients/{patient.pk}/access-log/").status_code == 404


def test_the_apis_role_changes_no_transfer(alice: User, bob: User, patient: Patient) -> None:
    PatientTransfer.objects.create(patient=patient, from_owner=alice, to_owner=bob)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT has_table_privilege('healthcare_api', 'patients_patienttransfer', privilege) "
            "FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) privilege"
        )
        assert [row[0] for row in cursor.fetchall()] == [True, False, False, False, False]


def test_of_concurrent_acceptances_and_a_withdrawal_one_wins(live: LiveServer) -> None:
    (_, giver_tokens), (taker, taker_tokens) = live.register(), live.register()
    for _ in range(5):
        patient = live.call("POST", "/api/patients/", {"name": "One"}, giver_tokens["access"]).json["id"]
        body = {"to": taker["username"]}
        offered = live.call("POST", f"/api/patients/{patient}/transfer/", body, giver_tokens["access"])
        assert offered.status == 202, offered.body
        path = f"/api/transfers/{offered.json['id']}"
        *accepted, withdrawn, changed = call_concurrently(
            *[partial(live.call, "POST", f"{path}/accept/", token=taker_tokens["access"])] * 3,
            partial(live.call, "POST", f"{path}/withdraw/", token=giver_tokens["access"]),
            partial(live.call, "PATCH", f"/api/patients/{patient}/", {"address": "Pune"}, giver_tokens["access"]),
        )
        assert sorted_statuses([*accepted, withdrawn]) == [200, 409, 409, 409]
        assert changed.status in {200, 404}
        owner, stranger = (giver_tokens, taker_tokens) if withdrawn.status == 200 else (taker_tokens, giver_tokens)
        read = [live.call("GET", f"/api/patients/{patient}/", token=one["access"]).status for one in (owner, stranger)]
        assert read == [200, 404]
