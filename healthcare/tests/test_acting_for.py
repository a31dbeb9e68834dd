"""X-Acting-For: asha works on alice's records, through the fast path and through standard Django REST framework."""

import datetime
import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.authentication import known_owners
from accounts.delegations.models import Delegation
from accounts.models import LoginSession, User
from audit.models import AccessLog
from conftest import LoggedInClient, logged_in
from doctors.tests.factories import make_doctor
from healthcare.fastpath.updates import FastUpdate
from healthcare.rls.context import without_role
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.merges import merge
from patients.models import Patient, PatientEvent
from patients.tests.factories import make_patient

HEADER = "X-Acting-For"
PATIENTS, MAPPINGS, DOCTORS = "/api/patients/", "/api/mappings/", "/api/doctors/"


def acting(user: User, owner: str) -> LoggedInClient:
    """A client of this user whose requests all act for the owner."""
    return act_for(logged_in(user), owner)


def act_for(client: LoggedInClient, owner: str) -> LoggedInClient:
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {client.tokens['access']}", HTTP_X_ACTING_FOR=owner)
    return client


def served_by(answer: Any) -> str:
    return str(getattr(answer.wsgi_request, "served_by", "standard"))


def bytes_of(answer: Any) -> bytes:
    content: bytes = answer.content
    return content.replace(answer["X-Request-Id"].encode(), b"")


@pytest.fixture
def asha(make_user: Callable[..., User]) -> User:
    return make_user("asha")


@pytest.fixture
def delegation(alice: User, asha: User) -> Delegation:
    return Delegation.objects.create(owner=alice, delegate=asha, role="write")


@pytest.fixture
def as_asha(asha: User, delegation: Delegation) -> LoggedInClient:
    return acting(asha, "alice")


@pytest.fixture(params=["fast", "standard"])
def path(request: pytest.FixtureRequest, settings: Any, as_asha: LoggedInClient) -> str:
    """Which implementation answers; the fast one knows the owner."""
    settings.FAST_PATH = "on" if request.param == "fast" else "off"
    assert as_asha.get(PATIENTS).status_code == 200
    return str(request.param)


@pytest.fixture
def patient(alice: User) -> Patient:
    return make_patient(alice)


def one(patient: Patient) -> str:
    return f"{PATIENTS}{patient.pk}/"


def test_every_answer_for_another_owner_names_the_owner(path: str, as_asha: LoggedInClient, patient: Patient) -> None:
    tag = as_asha.get(one(patient))["ETag"]
    key = {"Idempotency-Key": "k1"}
    answers = [
        as_asha.get(PATIENTS),
        as_asha.get(f"{one(patient)}history/"),
        as_asha.get(f"{one(patient)}access-log/"),
        as_asha.get(one(patient), headers={"If-None-Match": tag}),
        as_asha.get(f"{PATIENTS}{2**40}/"),
        as_asha.head(one(patient)),
        as_asha.options(PATIENTS),
        as_asha.post(PATIENTS, {"name": "New"}, headers=key),
        as_asha.post(PATIENTS, {"name": "New"}, headers=key),
        as_asha.post(PATIENTS, {"age": "many"}),
        as_asha.patch(one(patient), {"name": "Changed"}),
        as_asha.patch(one(patient), {"name": "Again"}, headers={"If-Match": tag}),
        as_asha.patch(f"{PATIENTS}{2**40}/", {"name": "Changed"}),
        as_asha.delete(one(patient)),
        as_asha.patch(PATIENTS, {}),
        as_asha.get(f"{PATIENTS}?colour=red"),
    ]
    statuses = [answer.status_code for answer in answers]
    assert statuses == [200, 200, 200, 304, 404, 200, 200, 201, 201, 400, 200, 412, 404, 403, 405, 400]
    assert {answer[HEADER] for answer in answers} == {"alice"}
    assert answers[8]["Idempotency-Replayed"] == "true"
    assert [served_by(answer) for answer in answers[:4]] == [path] * 4
    assert [served_by(answers[number]) for number in (4, 7, 10)] == [path] * 3


@pytest.mark.parametrize("name", [None, "self", "SELF", "asha", "Asha", "id", "zeros"])
def test_ones_own_records_need_no_header_and_answer_without_one(
    path: str, asha: User, as_asha: LoggedInClient, patient: Patient, name: str | None
) -> None:
    own = make_patient(asha, name="Own")
    given = {"id": str(asha.pk), "zeros": f"000{asha.pk}"}.get(name or "", name)
    client = logged_in(asha) if given is None else acting(asha, given)
    for answer in (client.get(PATIENTS), client.get(one(own)), client.patch(one(own), {"name": "Own, changed"})):
        assert (answer.status_code, HEADER in answer) == (200, False)
    assert [record["id"] for record in client.get(PATIENTS).json()] == [own.pk]
    assert client.delete(one(own)).status_code == 204
    assert client.get(one(patient)).status_code == 404
    assert AccessLog.objects.filter(actor=asha.pk, action="patient.partial_update").get().basis == "owner"


@pytest.mark.parametrize("header", ["", "  "])
@pytest.mark.parametrize("call", ["get", "post", "delete"])
def test_an_empty_header_is_a_bad_request(path: str, asha: User, patient: Patient, header: str, call: str) -> None:
    target = one(patient) if call == "delete" else PATIENTS
    answer = getattr(acting(asha, header), call)(target, *([{"name": "New"}] if call == "post" else []))
    assert (answer.status_code, HEADER in answer) == (400, False)
    assert answer.json()["errors"] == [
        {
            "pointer": f"/{HEADER}",
            "code": "blank",
            "detail": "Name the owner by username or id, or leave the header out.",
        }
    ]


def test_digits_are_an_id_and_never_a_username(path: str, asha: User, make_user: Callable[..., User]) -> None:
    numbered = make_user("20260101")
    Delegation.objects.create(owner=numbered, delegate=asha, role="read")
    assert acting(asha, "20260101").get(PATIENTS).status_code == 403
    answer = acting(asha, str(numbered.pk)).get(PATIENTS)
    assert (answer.status_code, answer[HEADER]) == (200, "20260101")
    for unknown in ("0", "-1", "9" * 18, "9" * 19, "9" * 400, "٣", "a\x00b", "\x00", "Ä", "alice,alice"):
        assert acting(asha, unknown).get(PATIENTS).json()["code"] == "not_a_delegate", unknown


def test_other_resources_ignore_the_header(asha: User, delegation: Delegation) -> None:
    doctor = make_doctor(asha)
    for owner in ("alice", "nobody", ""):
        client = acting(asha, owner)
        for answer in (
            client.get(DOCTORS),
            client.get(f"{DOCTORS}{doctor.pk}/"),
            client.get(f"{DOCTORS}{doctor.pk}/history/"),
            client.post(DOCTORS, {"name": "Dr. New"}),
            client.get("/api/auth/me/"),
            client.get("/api/auth/sessions/"),
        ):
            assert (answer.status_code // 100, HEADER in answer) == (2, False)
        assert client.get("/api/auth/me/").json()["username"] == "asha"
    assert {one.created_by_id for one in type(doctor).objects.all()} == {asha.pk}


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("post", PATIENTS, "{"),
        ("post", f"{PATIENTS}?colour=red", "{}"),
        ("patch", "own", "["),
        ("patch", "missing", "{}"),
        ("put", "missing", "{"),
        ("delete", "missing", ""),
        ("post", "missing/merge/", "{"),
        ("post", "missing/restore/", "\x00"),
        ("post", MAPPINGS, "null"),
    ],
)  # fmt: skip
def test_a_role_that_is_too_low_is_refused_before_anything_is_looked_at(
    path: str, as_asha: LoggedInClient, delegation: Delegation, patient: Patient, method: str, target: str, body: str
) -> None:
    Delegation.objects.update(role="read")
    url = target if target.startswith("/") else f"{PATIENTS}{target}/".replace("//", "/")
    url = url.replace("own", str(patient.pk)).replace("missing", str(2**40))
    answer = as_asha.generic(method.upper(), url, body, content_type="application/json")
    assert (answer.status_code, answer.json()["code"], answer[HEADER]) == (403, "role_too_low", "alice")


def test_a_delegate_who_writes_may_not_delete_restore_or_merge(
    path: str, as_asha: LoggedInClient, patient: Patient
) -> None:
    for answer in (
        as_asha.delete(one(patient)),
        as_asha.post(f"{one(patient)}restore/"),
        as_asha.post(f"{one(patient)}merge/", {"duplicate": patient.pk}),
        as_asha.post(f"{one(patient)}unmerge/", {"duplicate": patient.pk}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "role_too_low")
    assert Patient.objects.active().get() == patient


def test_a_login_that_has_ended_is_rejected_before_the_delegation(
    path: str, asha: User, as_asha: LoggedInClient
) -> None:
    LoginSession.objects.filter(user=asha).revoke()
    for owner in ("alice", "nobody"):
        act_for(as_asha, owner)
        for answer in (as_asha.get(PATIENTS), as_asha.post(PATIENTS, {"name": "New"}), as_asha.get(f"{PATIENTS}1/")):
            assert (answer.status_code, HEADER in answer) == (401, False)


def test_no_answer_names_the_owner_once_the_login_has_ended_between_both_paths(
    settings: Any, asha: User, as_asha: LoggedInClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.FAST_PATH = "on"
    assert as_asha.get(PATIENTS).status_code == 200
    respond = FastUpdate.respond

    def respond_and_log_out(self: FastUpdate, request: Any, kwargs: dict[str, Any]) -> Any:
        answer = respond(self, request, kwargs)
        assert (answer, request.record_owner.username) == (None, "alice")
        with without_role():
            LoginSession.objects.filter(user=asha).revoke()
        return answer

    monkeypatch.setattr(FastUpdate, "respond", respond_and_log_out)
    answer = as_asha.patch(f"{PATIENTS}{2**40}/", {"name": "Changed"})
    assert (answer.status_code, HEADER in answer) == (401, False)


@pytest.mark.parametrize("role", ["read", "write", "manage"])
def test_what_each_role_does_with_states_and_related_records(
    path: str, role: str, alice: User, as_asha: LoggedInClient, patient: Patient
) -> None:
    Delegation.objects.update(role=role)
    doctor = make_doctor(alice)
    mapping = make_mapping(patient, doctor)
    deleted, other, duplicate = (make_patient(alice, name=name) for name in ("Deleted", "Other", "Duplicate"))
    Patient.objects.filter(pk=deleted.pk).end()
    merge(other, duplicate)
    assert [row["id"] for row in as_asha.get(f"{PATIENTS}?deleted=true").json()] == [deleted.pk]
    assert as_asha.get(f"{one(patient)}?include=doctors").json()["doctors"][0]["id"] == doctor.pk
    path_of_mapping = f"{MAPPINGS}{mapping.pk}/"
    statuses = [
        as_asha.patch(path_of_mapping, {"role": "GP"}).status_code,
        as_asha.patch(path_of_mapping, {"ended_at": timezone.now().isoformat()}).status_code,
        as_asha.post(f"{one(deleted)}restore/").status_code,
        as_asha.post(f"{one(other)}unmerge/", {"duplicate": duplicate.pk}).status_code,
        as_asha.post(f"{one(other)}merge/", {"duplicate": duplicate.pk}).status_code,
        as_asha.delete(one(other)).status_code,
    ]
    allowed = {"read": 0, "write": 2, "manage": 6}[role]
    assert statuses == [200, 200, 200, 200, 200, 204][:allowed] + [403] * (6 - allowed)
    mapping.refresh_from_db()
    assert (mapping.role, mapping.ended_at is not None) == (("", False) if role == "read" else ("GP", True))
    assert (Patient.objects.get(pk=deleted.pk).deleted_at is None) == (role == "manage")


def test_callers_who_may_not_act_get_one_answer_and_no_name(path: str, asha: User, as_asha: LoggedInClient) -> None:
    def forbidden() -> bytes:
        answers = [as_asha.get(PATIENTS), as_asha.post(PATIENTS, {"name": "New"}), as_asha.delete(f"{PATIENTS}1/")]
        assert {answer.status_code for answer in answers} == {403}
        assert not any(HEADER in answer for answer in answers)
        (content,) = {bytes_of(answer) for answer in answers}
        return content

    contents = set()
    for change in ({"revoked_at": timezone.now()}, {"expires_at": timezone.now() - datetime.timedelta(seconds=1)}):
        Delegation.objects.update(**change)
        contents.add(forbidden())
        Delegation.objects.update(revoked_at=None, expires_at=None)
        assert as_asha.get(PATIENTS).status_code == 200
    User.objects.filter(username="alice").update(is_active=False)
    contents.add(forbidden())
    Delegation.objects.all().delete()
    contents.add(forbidden())
    for owner in ("bob", "nobody", str(asha.pk + 10_000)):
        act_for(as_asha, owner)
        contents.add(forbidden())
    assert len(contents) == 1
    assert not Patient.objects.exists()


def test_a_lower_role_holds_from_the_next_request(
    path: str, as_asha: LoggedInClient, patient: Patient, caplog: pytest.LogCaptureFixture
) -> None:
    assert served_by(as_asha.patch(one(patient), {"name": "Changed"})) == path
    Delegation.objects.update(role="read")
    for refused in (as_asha.patch(one(patient), {"name": "Refused"}), as_asha.post(PATIENTS, {"name": "Refused"})):
        assert refused.json()["code"] == "role_too_low"
    assert [record for record in caplog.records if record.name == "healthcare.fastpath"] == []  # no policy had to
    assert served_by(as_asha.get(one(patient))) == path
    Delegation.objects.update(role="manage")
    assert as_asha.delete(one(patient)).status_code == 204


def test_what_a_delegate_creates_belongs_to_the_owner(
    path: str, alice: User, asha: User, as_asha: LoggedInClient, as_alice: LoggedInClient
) -> None:
    answer = as_asha.post(PATIENTS, {"name": "New"})
    assert (answer.status_code, answer.json()["created_by"], served_by(answer)) == (201, alice.pk, path)
    new = answer.json()["id"]
    assert as_alice.get(answer["Location"])["ETag"] == answer["ETag"] == as_asha.get(answer["Location"])["ETag"]
    mapping = as_asha.post(MAPPINGS, {"patient": new, "doctor": make_doctor(alice).pk})
    assert (mapping.status_code, mapping.json()["created_by"]) == (201, alice.pk)
    assert as_asha.patch(f"{MAPPINGS}{mapping.json()['id']}/", {"role": "GP"}).status_code == 200
    assert as_asha.delete(f"{MAPPINGS}{mapping.json()['id']}/").status_code == 204
    assert {*Patient.objects.values_list("created_by", flat=True)} == {alice.pk}
    assert logged_in(asha).get(PATIENTS).json() == []


def test_history_and_access_log_name_the_delegate(
    path: str, alice: User, asha: User, as_asha: LoggedInClient, as_alice: LoggedInClient, patient: Patient
) -> None:
    before = AccessLog.objects.count()
    as_asha.patch(one(patient), {"name": "Changed"}, headers={"X-Change-Reason": "spelling"})
    as_asha.get(one(patient))
    as_asha.get(PATIENTS)
    as_asha.get(f"{PATIENTS}{2**40}/")
    event = PatientEvent.objects.filter(id=patient.pk).latest("pgh_id")
    assert (event.pgh_context["actor"], event.pgh_context["reason"], event.created_by_id) == (
        asha.pk, "spelling", alice.pk,
    )  # fmt: skip
    logged = AccessLog.objects.order_by("pk").values_list("actor", "basis", "action", "outcome")
    assert [*logged][before:] == [
        (asha.pk, "delegate", "patient.partial_update", 200),
        (asha.pk, "delegate", "patient.retrieve", 200),
        (asha.pk, "delegate", "patient.list", 200),
        (asha.pk, "delegate", "patient.retrieve", 404),
    ]
    for client in (as_alice, as_asha):
        latest = client.get(f"{one(patient)}history/").json()[0]
        assert (latest["actor"], latest["reason"]) == (asha.pk, "spelling")
        read = client.get(f"{one(patient)}access-log/").json()
        assert (read[-1]["actor"], read[-1]["basis"]) == (asha.pk, "delegate")


def test_an_idempotency_key_belongs_to_caller_and_owner_together(
    path: str, alice: User, bob: User, asha: User, as_asha: LoggedInClient, as_alice: LoggedInClient
) -> None:
    Delegation.objects.create(owner=bob, delegate=asha, role="write")
    for_bob, for_self = acting(asha, "bob"), logged_in(asha)
    for_bob.get(PATIENTS)
    key, body = {"Idempotency-Key": "7e0c"}, {"name": "Once"}
    first = {client: client.post(PATIENTS, body, headers=key) for client in (as_asha, for_bob, for_self, as_alice)}
    assert [answer.status_code for answer in first.values()] == [201] * 4
    assert [served_by(answer) for answer in first.values()] == [path] * 4
    owners = [answer.json()["created_by"] for answer in first.values()]
    assert owners == [alice.pk, bob.pk, asha.pk, alice.pk]
    for client, answer in first.items():
        again = client.post(PATIENTS, body, headers=key)
        assert (again.json(), again["Idempotency-Replayed"]) == (answer.json(), "true")
        assert again.get(HEADER) == answer.get(HEADER)
    assert acting(asha, str(alice.pk)).post(PATIENTS, body, headers=key)["Idempotency-Replayed"] == "true"
    assert as_asha.post(PATIENTS, {"name": "Other"}, headers=key).status_code == 422
    assert Patient.objects.count() == 4
    Delegation.objects.filter(owner=alice).update(role="read")
    assert as_asha.post(PATIENTS, body, headers=key).json()["code"] == "role_too_low"


def test_a_cursor_of_one_owner_shows_only_the_current_owners_rows(
    path: str, alice: User, asha: User, as_asha: LoggedInClient
) -> None:
    hers = [make_patient(alice).pk for _ in range(4)]
    own = [make_patient(asha).pk for _ in range(4)]
    link = as_asha.get(f"{PATIENTS}?limit=2")["Link"]
    cursor = link[link.index("<") + 1 : link.index(">")].partition(PATIENTS)[2]
    assert [record["id"] for record in as_asha.get(PATIENTS + cursor).json()] == [hers[1], hers[0]]
    assert {record["id"] for record in logged_in(asha).get(PATIENTS + cursor).json()} <= {*own}


def test_searches_filters_and_nested_lists_act_for_the_owner(
    path: str, alice: User, asha: User, as_asha: LoggedInClient, as_alice: LoggedInClient
) -> None:
    doctor = make_doctor(asha)
    for owner in (asha, alice):
        patient = make_patient(owner, name="Zebulon Carter", identifier="M-1", phone="080 5550 0100")
        make_mapping(patient, doctor, role="GP")
    at = timezone.now().isoformat().replace("+00:00", "Z")
    mapping = Mapping.objects.get(created_by=alice)
    for query in (
        f"{PATIENTS}?search=zebulon", f"{PATIENTS}?search=zebulom", f"{PATIENTS}?search=08055500100",
        f"{PATIENTS}?search=M-1", f"{PATIENTS}?identifier=M-1", f"{PATIENTS}?doctor={doctor.pk}",
        f"{PATIENTS}?include=doctors",
        f"{PATIENTS}?ordering=name", f"{PATIENTS}?fields=id,name", f"{PATIENTS}?as_of={at}", f"{MAPPINGS}?as_of={at}",
        f"{MAPPINGS}?patient={patient.pk}", f"{MAPPINGS}?doctor={doctor.pk}", f"{PATIENTS}{patient.pk}/doctors/",
        f"{MAPPINGS}{patient.pk}/", f"{DOCTORS}{doctor.pk}/patients/", f"{one(patient)}?include=doctors",
        f"{one(patient)}?as_of={at}", f"/api/assignments/{mapping.pk}/", f"{MAPPINGS}{mapping.pk}/history/",
    ):  # fmt: skip
        by_delegate, by_owner = as_asha.get(query), as_alice.get(query)
        assert by_delegate.status_code == 200, query
        assert by_delegate.json() == by_owner.json() != [], query
        assert isinstance(by_owner.json(), dict) or len(by_owner.json()) == 1, query
        assert (served_by(by_delegate), by_delegate[HEADER]) == (served_by(by_owner), "alice"), query
    found = as_asha.post(f"{PATIENTS}search/", {"search": "zebulon"})
    assert [record["id"] for record in found.json()] == [patient.pk]
    assert as_asha.get(f"{PATIENTS}?search=zebulon&count=true")["X-Total-Count"] == "1"


def test_likely_duplicates_are_those_of_the_owner(path: str, alice: User, asha: User, as_asha: LoggedInClient) -> None:
    known = {"name": "Zebulon Carter", "phone": "080 5550 0100", "birth_date": "1990-06-03"}
    birth_date = datetime.date(1990, 6, 3)
    make_patient(asha, **known | {"birth_date": birth_date})
    new = as_asha.post(f"{PATIENTS}?on_duplicate=reject", known)
    assert new.status_code == 201
    again = as_asha.post(f"{PATIENTS}?on_duplicate=reject", known)
    assert (again.status_code, [one["id"] for one in again.json()["duplicates"]]) == (409, [new.json()["id"]])
    assert again[HEADER] == "alice"
    second = make_patient(alice, **known | {"birth_date": birth_date})
    listed = as_asha.get(f"{PATIENTS}{new.json()['id']}/duplicates/").json()
    assert [one["id"] for one in listed] == [second.pk]


def test_a_patient_of_the_delegate_reads_like_a_missing_one(path: str, asha: User, as_asha: LoggedInClient) -> None:
    doctor, own = make_doctor(asha), make_patient(asha)
    answers = [as_asha.post(MAPPINGS, {"patient": key, "doctor": doctor.pk}) for key in (own.pk, 2**40)]
    answers += [as_asha.get(f"{MAPPINGS}?patient={key}") for key in (own.pk, 2**40)]
    answers += [as_asha.patch(f"{PATIENTS}{key}/", {"name": "New"}) for key in (own.pk, 2**40)]
    assert [answer.status_code for answer in answers] == [400, 400, 400, 400, 404, 404]
    for pair in (answers[:2], answers[2:4], answers[4:]):
        assert len({bytes_of(answer) for answer in pair}) == 1
    assert not Mapping.objects.exists()


def test_a_deleted_patient_is_missing_to_a_delegate_who_writes(
    path: str, as_asha: LoggedInClient, as_alice: LoggedInClient, patient: Patient
) -> None:
    assert as_alice.delete(one(patient)).status_code == 204
    for call in (as_asha.patch, as_asha.put):
        answer = call(one(patient), {"name": "Changed"})
        assert (answer.status_code, answer[HEADER]) == (404, "alice")
    assert as_asha.get(one(patient)).status_code == 404
    assert Patient.objects.get().name == "John Smith"


def test_a_username_that_moves_to_another_owner_names_that_one(
    path: str, alice: User, asha: User, as_asha: LoggedInClient, patient: Patient, make_user: Callable[..., User]
) -> None:
    assert as_asha.get(one(patient)).status_code == 200
    User.objects.filter(pk=alice.pk).update(username="alice2")
    assert as_asha.get(PATIENTS).json()["code"] == "not_a_delegate"
    other = make_user("alice", email="other@example.org")
    Delegation.objects.create(owner=other, delegate=asha, role="write")
    for _ in range(2):  # at first the fast path knows the former owner
        answer = as_asha.get(PATIENTS)
        assert (answer.json(), answer[HEADER]) == ([], "alice")
    assert as_asha.get(one(patient)).status_code == 404
    assert as_asha.post(PATIENTS, {"name": "New"}).json()["created_by"] == other.pk
    assert acting(asha, str(alice.pk)).get(one(patient))[HEADER] == "alice2"


def test_the_fast_path_answers_once_the_owner_is_known(
    settings: Any, as_asha: LoggedInClient, patient: Patient, caplog: pytest.LogCaptureFixture
) -> None:
    settings.FAST_PATH = "on"
    known_owners.clear()
    with caplog.at_level(logging.INFO):
        answers = [as_asha.get(one(patient)) for _ in range(3)]
    assert [served_by(answer) for answer in answers] == ["standard", "fast", "fast"]
    assert len({bytes_of(answer) for answer in answers}) == 1
    lines = [record.getMessage() for record in caplog.records if record.name == "healthcare.access"]
    assert [line.rpartition("path=")[2] for line in lines] == ["standard", "fast", "fast"]


def test_verification_finds_no_difference_for_delegates(
    settings: Any, as_asha: LoggedInClient, alice: User, patient: Patient, caplog: pytest.LogCaptureFixture
) -> None:
    make_mapping(patient, make_doctor(alice))
    as_asha.get(PATIENTS)
    settings.FAST_PATH = "verify"
    before = AccessLog.objects.count()
    for url in (PATIENTS, f"{PATIENTS}?include=doctors", one(patient), f"{one(patient)}history/", MAPPINGS,
                f"{one(patient)}access-log/", f"{one(patient)}doctors/", f"{PATIENTS}{2**40}/"):  # fmt: skip
        assert as_asha.get(url)[HEADER] == "alice"
    Delegation.objects.update(revoked_at=timezone.now())
    assert as_asha.get(PATIENTS).status_code == 403
    assert [record for record in caplog.records if record.name == "healthcare.fastpath"] == []
    assert AccessLog.objects.filter(basis="delegate").count() == before + 9  # the refused one as well


def test_a_delegate_costs_no_query_more_than_the_owner(
    path: str, as_asha: LoggedInClient, as_alice: LoggedInClient, alice: User, patient: Patient
) -> None:
    doctor = make_doctor(alice)
    make_mapping(patient, doctor)

    def queries(client: APIClient) -> list[int]:
        counts = []
        for call, url, body in (
            (client.get, PATIENTS, None),
            (client.get, one(patient), None),
            (client.get, f"{DOCTORS}{doctor.pk}/patients/", None),
            (client.patch, one(patient), {"name": f"Name {id(client)}"}),
            (client.post, PATIENTS, {"name": "New"}),
            (client.post, f"{PATIENTS}search/", {"search": "john"}),
        ):
            with CaptureQueriesContext(connection) as captured:
                answer = call(url, body) if body else call(url)
            assert answer.status_code in {200, 201}
            counts.append(len(captured))
        return counts

    queries(as_alice)  # what is read once a process
    assert queries(as_asha) == queries(as_alice)


@pytest.mark.django_db(transaction=True)
def test_neither_caller_nor_owner_outlives_the_transaction(
    path: str, as_asha: LoggedInClient, patient: Patient
) -> None:
    for answer in (
        as_asha.get(one(patient)),
        as_asha.patch(one(patient), {"name": "Changed"}),
        as_asha.delete(one(patient)),
    ):
        assert answer[HEADER] == "alice"
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('app.user_id', true), current_setting('app.owner_id', true), "
                "current_setting('app.owner_role', true), current_user <> 'healthcare_api'"
            )
            caller, owner, role, left = cursor.fetchone()
        assert (caller or "", owner or "", role or "", left) == ("", "", "", True)


def test_scripts_of_allowed_origins_may_send_and_read_the_header(as_asha: LoggedInClient, settings: Any) -> None:
    origin = settings.CORS_ALLOWED_ORIGINS[0]
    asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    allowed = APIClient().options(PATIENTS, headers=asked)["Access-Control-Allow-Headers"]
    assert "x-acting-for" in allowed.split(", ")
    answer = as_asha.get(PATIENTS, headers={"Origin": origin})
    assert HEADER in answer["Access-Control-Expose-Headers"].split(", ")


@pytest.mark.parametrize("role", ["", "read"])
def test_a_refused_attempt_to_act_is_in_the_access_log(
    path: str, alice: User, make_user: Callable[..., User], patient: Patient, role: str
) -> None:
    """Of a stranger who reads, and of a delegate who may only read and changes the patient."""
    ben = make_user("ben")
    if role:
        Delegation.objects.create(owner=alice, delegate=ben, role=role)
    client = acting(ben, "alice")
    refused = client.patch(one(patient), {"name": "X"}) if role else client.get(one(patient))
    assert refused.status_code == 403
    attempts = AccessLog.objects.filter(actor=ben.pk)
    found = attempts.values_list("action", "patient_ids", "basis", "outcome")
    assert list(found) == [("patient.partial_update" if role else "patient.retrieve", [patient.pk], "delegate", 403)]
