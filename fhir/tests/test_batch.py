"""POST /fhir with a batch: each entry is answered as the same request on its own, and independent of the others."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.delegations.models import Delegation
from accounts.models import User
from accounts.personal_tokens.rules import create_token
from accounts.personal_tokens.tests.token_requests import using
from audit.models import AccessLog
from conftest import LoggedInClient, logged_in
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from fhir import transactions
from fhir.tests.bundles import (
    BASE,
    FAUCI,
    URN,
    batch,
    body_of,
    bundle,
    changed,
    entry,
    expressions,
    linked,
    outcomes,
    statuses,
    transaction,
)
from fhir.tests.test_interactions import ASHA, FHIR, send
from healthcare.api.models import IdempotencyRecord
from mappings.tests.factories import make_mapping, make_past_mapping
from patients.models import Patient, PatientEvent
from patients.tests.factories import make_patient


def accesses() -> list[tuple[Any, ...]]:
    return list(AccessLog.objects.order_by("id").values_list("actor", "action", "patient_ids", "basis", "outcome"))


@pytest.mark.parametrize("path", ["", "/"])
def test_each_entry_is_answered_in_its_place(as_alice: LoggedInClient, alice: User, path: str) -> None:
    patient, gone, doctor = make_patient(alice), make_patient(alice), make_doctor(alice)
    sent = bundle(
        "batch",
        entry("GET", f"Patient/{patient.pk}"),
        entry("PUT", f"Patient/{patient.pk}", changed(patient.pk), ifMatch='W/"1"'),
        entry("DELETE", f"Patient/{gone.pk}"),
        entry("POST", "Patient", ASHA),
        entry("GET", f"Practitioner/{doctor.pk}", ifNoneMatch='W/"1"'),
        entry("HEAD", f"{BASE}/Practitioner/{doctor.pk}"),
        entry("GET", f"/Patient/{patient.pk}/_history/1"),
    )
    answer = send(as_alice, "POST", path, sent)
    created = Patient.objects.latest("pk")
    read = send(as_alice, "GET", f"/Patient/{patient.pk}")
    made = send(as_alice, "GET", f"/Patient/{created.pk}")
    first = send(as_alice, "GET", f"/Patient/{patient.pk}/_history/1")
    seen = send(as_alice, "GET", f"/Practitioner/{doctor.pk}")

    def times(single: Any) -> str:
        return str(single.resource["meta"]["lastUpdated"])

    entries = answer.resource.pop("entry")
    for one in entries:
        if "lastModified" in one["response"]:
            one["response"]["lastModified"] = one["response"]["lastModified"][:19]
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, FHIR)
    assert answer.resource == {"resourceType": "Bundle", "type": "batch-response"}
    one, url = f"{BASE}/Patient/{patient.pk}", f"{BASE}/Patient/{created.pk}"
    assert entries == [
        {"fullUrl": one, "resource": first.resource,
         "response": {"status": "200", "etag": 'W/"1"', "lastModified": times(first)[:19]}},
        {"fullUrl": one, "resource": read.resource,
         "response": {"status": "200", "etag": 'W/"2"', "lastModified": times(read)[:19]}},
        {"response": {"status": "204"}},
        {"fullUrl": url, "resource": made.resource,
         "response": {"status": "201", "location": f"{url}/_history/1", "etag": 'W/"1"',
                      "lastModified": times(made)[:19]}},
        {"response": {"status": "304", "etag": 'W/"1"', "lastModified": times(seen)[:19]}},
        {"response": {"status": "200", "etag": 'W/"1"', "lastModified": times(seen)[:19]}},
        {"fullUrl": one, "resource": first.resource,
         "response": {"status": "200", "etag": 'W/"1"', "lastModified": times(first)[:19]}},
    ]  # fmt: skip
    gone.refresh_from_db()
    assert gone.deleted_at is not None


def test_an_error_of_one_entry_leaves_the_others(as_alice: LoggedInClient, alice: User, bob: User) -> None:
    patient, theirs = make_patient(alice), make_patient(bob)
    answer = batch(
        as_alice,
        entry("POST", "Patient", {**ASHA, "birthDate": "1990-02-31"}),
        entry("POST", "Patient", ASHA),
        entry("PUT", f"Patient/{patient.pk}", changed(patient.pk), ifMatch='W/"7"'),
        entry("GET", f"Patient/{theirs.pk}"),
        entry("PUT", f"Patient/{theirs.pk}", changed(theirs.pk)),
        entry("GET", f"Patient/{patient.pk}?colour=red"),
        entry("POST", "Organization", {"resourceType": "Organization"}),
        entry("POST", "Practitioner", ASHA),
        entry("PUT", f"Patient/{patient.pk}", changed(patient.pk)),
    )
    assert statuses(answer) == ["400", "201", "412", "404", "404", "400", "404", "400", "200"]
    assert outcomes(answer)[0] == ("value", ["Patient.birthDate"])
    assert outcomes(answer)[2:6] == [
        ("conflict", []), ("not-found", []), ("not-found", []), ("not-supported", ["http.colour"]),
    ]  # fmt: skip
    assert Patient.objects.filter(created_by=alice).count() == 2
    assert Patient.objects.get(pk=patient.pk).name == "Changed"
    assert Patient.objects.get(pk=theirs.pk).name == "John Smith"


@pytest.mark.parametrize(
    ("sent", "status", "issue"),
    [
        (entry("PATCH", "Patient/1"), "405", ("not-supported", ["Bundle.entry[0].request"])),
        (entry("GET", "Patient/$match"), "400", ("not-supported", ["Bundle.entry[0].request.url"])),
        (entry("POST", "Patient/$match", ASHA), "400", ("not-supported", ["Bundle.entry[0].request.url"])),
        (entry("GET", "$export"), "400", ("not-supported", ["Bundle.entry[0].request.url"])),
        (entry("POST", "Patient/_search", ASHA), "400", ("not-supported", ["Bundle.entry[0].request.url"])),
        (entry("GET", "http://elsewhere.example/Patient/1"), "400", ("not-supported", ["Bundle.entry[0].request.url"])),
        (entry("GET", "../api/patients/"), "400", ("not-supported", ["Bundle.entry[0].request.url"])),
        (entry("GET", "Patient/%31"), "400", ("not-supported", ["Bundle.entry[0].request.url"])),
        (entry("GET", "Patient/1#x"), "400", ("not-supported", ["Bundle.entry[0].request.url"])),
        (entry("POST", BASE, bundle("batch")), "400", ("not-supported", ["Bundle.entry[0].request.url"])),
        (entry("POST", "Bundle", bundle("batch")), "404", ("not-found", [])),
        (entry("POST", "Patient"), "400", ("required", ["Bundle.entry[0].resource"])),
        (entry("GET", "Patient/1", ASHA), "400", ("structure", ["Bundle.entry[0].resource"])),
        (entry("POST", "Patient", linked(f"{URN}1")), "400",
         ("not-found", ["Bundle.entry[0].resource.link[0].other.reference"])),
    ],
)  # fmt: skip
def test_an_entry_asks_for_nothing_but_the_interactions_of_a_type(
    as_alice: LoggedInClient, sent: Any, status: str, issue: Any
) -> None:
    answer = batch(as_alice, sent)
    assert (statuses(answer), outcomes(answer)) == ([status], [issue])
    whole = transaction(as_alice, sent)
    assert whole.status_code == int(status)
    assert expressions(whole) == [(issue[0], issue[1] or ["Bundle.entry[0]"])]
    assert not Patient.objects.exists()


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_conditional_updates_and_deletes_are_refused_as_single_ones_are(as_alice: LoggedInClient, method: str) -> None:
    body = ASHA if method == "PUT" else None
    single = send(as_alice, method, "/Patient?name=x", body)
    assert single.status_code in {400, 405}
    assert statuses(batch(as_alice, entry(method, "Patient?name=x", body))) == [str(single.status_code)]


@pytest.mark.parametrize(
    ("sent", "status", "issue"),
    [
        (bundle("searchset"), 400, ("not-supported", ["Bundle.type"])),
        (bundle("batch", {"resource": ASHA}), 400, ("invariant", ["Bundle.entry[0].request"])),
        (bundle("batch", {"request": {"method": "GET"}}), 400, ("required", ["Bundle.entry[0].request.url"])),
        (bundle("batch", {"request": {"method": "LOOK", "url": "Patient/1"}}), 400,
         ("code-invalid", ["Bundle.entry[0].request.method"])),
        (bundle("batch", entry("POST", "Patient", "x")), 400, ("structure", ["Bundle.entry[0].resource"])),
        (bundle("batch", "x"), 400, ("structure", ["Bundle.entry[0]"])),
        ({"resourceType": "Bundle", "type": "batch", "entry": "x"}, 400, ("structure", ["Bundle.entry"])),
        ({"resourceType": "Bundle", "type": "batch", "colour": 1}, 400, ("structure", ["Bundle.colour"])),
        (ASHA, 400, ("structure", ["Bundle"])),
        (bundle("batch", *[entry("GET", "Patient/1")] * 101), 413, ("too-long", ["Bundle.entry"])),
    ],
)  # fmt: skip
def test_what_is_no_batch_is_refused_as_a_whole(as_alice: LoggedInClient, sent: Any, status: int, issue: Any) -> None:
    answer = send(as_alice, "POST", "", sent)
    assert (answer.status_code, expressions(answer)) == (status, [issue])


def test_an_empty_batch_is_answered_without_entries(as_alice: LoggedInClient) -> None:
    answer = batch(as_alice)
    assert (answer.status_code, answer.resource) == (200, {"resourceType": "Bundle", "type": "batch-response"})


def test_a_batch_needs_a_token_and_a_post(as_alice: LoggedInClient, anonymous: APIClient, alice: User) -> None:
    refused = batch(anonymous, entry("GET", f"Practitioner/{make_doctor(alice).pk}"))
    assert (refused.status_code, expressions(refused)) == (401, [("login", [])])
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        answer = send(as_alice, method, "", {} if method in {"PUT", "PATCH"} else None)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST, OPTIONS")
    assert send(as_alice, "POST", "?colour=red", bundle("batch")).status_code == 400
    assert send(as_alice, "POST", "?_pretty=true", bundle("batch")).content.count(b"\n") == 3


@pytest.mark.parametrize("preference", ["minimal", "representation", "OperationOutcome"])
def test_a_preference_of_the_batch_holds_for_each_entry(as_alice: LoggedInClient, preference: str) -> None:
    answer = batch(as_alice, entry("POST", "Patient", ASHA), prefer=f"return={preference}")
    assert statuses(answer) == ["201"]
    [found] = answer.resource["entry"]
    assert ("resource" in found, "outcome" in found["response"]) == (
        preference == "representation", preference == "OperationOutcome",
    )  # fmt: skip


def test_the_access_log_has_what_single_requests_have(as_alice: LoggedInClient, alice: User, bob: User) -> None:
    mine, other, theirs = make_patient(alice), make_patient(alice), make_patient(bob)
    requests = [
        ("GET", f"Patient/{mine.pk}", None),
        ("GET", f"Patient/{theirs.pk}", None),
        ("PUT", f"Patient/{other.pk}", changed(other.pk)),
        ("PUT", f"Patient/{theirs.pk}", changed(theirs.pk)),
        ("GET", f"Patient/{mine.pk}/_history", None),
        ("POST", "Patient", ASHA),
        ("POST", "Patient", {**ASHA, "gender": "x"}),
        ("GET", f"Patient/{2**40}", None),
    ]
    for method, path, body in requests:
        send(as_alice, method, f"/{path}", body)
    singly = sorted(accesses())
    assert len(singly) == 6
    latest = AccessLog.objects.latest("id").pk
    answer = batch(as_alice, *[entry(method, path, body) for method, path, body in requests])
    rows = AccessLog.objects.filter(pk__gt=latest)
    assert sorted(rows.values_list("actor", "action", "patient_ids", "basis", "outcome")) == singly
    assert {*rows.values_list("request_id", flat=True)} == {answer.headers["X-Request-Id"]}


def test_history_names_the_caller_the_request_and_the_reason_of_the_batch(
    as_alice: LoggedInClient, alice: User
) -> None:
    answer = batch(
        as_alice, entry("POST", "Patient", ASHA), entry("POST", "Patient", ASHA), x_change_reason="Moved here"
    )
    expected = {"actor": alice.pk, "request_id": answer.headers["X-Request-Id"], "reason": "Moved here"}
    assert [*PatientEvent.objects.values_list("pgh_context", flat=True)] == [expected] * 2


@pytest.fixture
def asha(make_user: Any) -> User:
    user: User = make_user("asha")
    return user


def acting(user: User, owner: str = "alice") -> LoggedInClient:
    client = logged_in(user)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {client.tokens['access']}", HTTP_X_ACTING_FOR=owner)
    return client


@pytest.mark.parametrize(
    ("role", "expected"), [("read", ["200", "403", "403", "403"]), ("write", ["200", "200", "201", "403"]),
                           ("manage", ["200", "200", "201", "204"])],
)  # fmt: skip
def test_a_delegate_needs_the_role_of_each_entry(alice: User, asha: User, role: str, expected: list[str]) -> None:
    Delegation.objects.create(owner=alice, delegate=asha, role=role)
    patient = make_patient(alice)
    client, one = acting(asha), f"Patient/{patient.pk}"
    answer = batch(
        client, entry("GET", one), entry("PUT", one, changed(patient.pk)), entry("POST", "Patient", ASHA),
        entry("DELETE", one),
    )  # fmt: skip
    assert statuses(answer) == expected
    assert answer.headers["X-Acting-For"] == "alice"
    assert {basis for _, _, _, basis, _ in accesses()} == {"delegate"}
    assert {*Patient.objects.values_list("created_by", flat=True)} == {alice.pk}


def test_an_entry_that_ignores_the_owner_is_the_callers_own_and_the_next_one_the_owners(
    alice: User, asha: User
) -> None:
    Delegation.objects.create(owner=alice, delegate=asha, role="write")
    patient = make_patient(alice)
    answer = batch(
        acting(asha),
        entry("POST", "Practitioner", FAUCI),
        entry("GET", f"Patient/{patient.pk}"),
        entry("POST", "Practitioner", {**FAUCI, "gender": "x"}),
        entry("POST", "Patient", ASHA),
        entry("POST", "Practitioner", FAUCI),
    )
    assert statuses(answer) == ["201", "200", "400", "201", "201"]
    assert {*Doctor.objects.values_list("created_by", flat=True)} == {asha.pk}
    assert Patient.objects.latest("pk").created_by == alice


def test_who_is_no_delegate_gets_no_entry_and_is_recorded(alice: User, bob: User) -> None:
    answer = batch(acting(bob), entry("GET", f"Patient/{make_patient(alice).pk}"))
    assert answer.status_code == 403
    assert accesses() == [(bob.pk, "patient.bundle", [], "delegate", 403)]


@pytest.mark.parametrize("as_delegate", [False, True])
def test_a_token_that_reads_writes_nothing_by_a_batch(alice: User, asha: User, as_delegate: bool) -> None:
    Delegation.objects.create(owner=alice, delegate=asha, role="manage")
    patient, one = make_patient(alice), Patient.objects.get
    if as_delegate:
        client = using(create_token(asha, name="Report", scope="read", acting_for="alice").text)
    else:
        client = using(create_token(alice, name="Report", scope="read").text)
    path = f"Patient/{patient.pk}"
    answer = batch(
        client, entry("GET", path), entry("PUT", path, changed(patient.pk)), entry("DELETE", path),
        entry("POST", "Patient", ASHA), entry("POST", "Practitioner", FAUCI), entry("GET", path),
    )  # fmt: skip
    assert statuses(answer) == ["200", "403", "403", "403", "403", "200"]
    [found] = answer.resource["entry"][1]["response"]["outcome"]["issue"]
    assert found["details"]["coding"][0]["code"] == "insufficient_scope"
    assert (one().name, Doctor.objects.count()) == ("John Smith", 0)


def test_a_token_that_writes_and_one_confined_to_an_owner_do_so_by_a_batch(alice: User, asha: User) -> None:
    Delegation.objects.create(owner=alice, delegate=asha, role="write")
    client = using(create_token(asha, name="Import", scope="write", acting_for="alice").text)
    answer = batch(client, entry("POST", "Patient", ASHA), entry("POST", "Practitioner", FAUCI))
    assert statuses(answer) == ["201", "201"]
    assert (Patient.objects.get().created_by, Doctor.objects.get().created_by) == (alice, asha)


def test_the_directory_of_doctors_is_written_by_its_editors_alone(as_alice: LoggedInClient, settings: Any) -> None:
    settings.DIRECTORY_EDITORS = "staff"
    assert statuses(batch(as_alice, entry("POST", "Practitioner", FAUCI))) == ["403"]


def test_an_erasure_empties_the_stored_answers_that_have_only_read_the_doctor_or_the_user(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User
) -> None:
    doctor, other = make_doctor(alice, name="Dr. Quokka"), make_doctor(alice)
    patient = make_patient(alice)
    make_past_mapping(patient, doctor)
    make_mapping(patient, other)
    longer = make_doctor(alice, id=int(f"{doctor.pk}0"))
    sent = {
        "the doctor": entry("GET", f"Practitioner/{doctor.pk}"),
        "a search": entry("GET", "Practitioner?name=quokka"),
        "the care team": entry("GET", f"CareTeam/{patient.pk}"),
        "another doctor": entry("GET", f"Practitioner/{other.pk}"),
        "a longer id": entry("GET", f"Practitioner/{longer.pk}"),
    }
    for name, one in sent.items():
        assert statuses(batch(as_alice, one, idempotency_key=name.replace(" ", "-"))) == ["200"]
    assert IdempotencyRecord.objects.filter(body__contains="Quokka").count() == 3
    printed = StringIO()
    call_command("erase_doctor", str(doctor.pk), "--reason", "asked", "--yes", stdout=printed)
    assert not IdempotencyRecord.objects.filter(body__contains="Quokka").exists()
    assert "  api_idempotencyrecord 3\n" in printed.getvalue()
    replayed = [batch(as_alice, one, idempotency_key=name.replace(" ", "-")).status_code for name, one in sent.items()]
    assert replayed == [410, 410, 410, 200, 200]

    Delegation.objects.create(owner=alice, delegate=bob, role="write")
    body = {**changed(patient.pk), "telecom": [{"system": "phone", "value": "112"}]}
    assert send(as_bob, "PUT", f"/Patient/{patient.pk}", body, x_acting_for="alice").status_code == 200
    history = entry("GET", f"Provenance?target=Patient/{patient.pk}")
    found = batch(as_alice, history, idempotency_key="history").resource["entry"][0]["resource"]["entry"]
    assert found[0]["resource"]["agent"][0]["who"]["display"] == bob.name
    call_command("erase_user", "bob", "--reason", "asked", "--yes", stdout=printed)
    assert batch(as_alice, history, idempotency_key="history").status_code == 410
    assert not IdempotencyRecord.objects.filter(body__contains=bob.name).exists()


def test_an_idempotency_key_covers_the_whole_batch(as_alice: LoggedInClient) -> None:
    sent = [
        entry("POST", "Patient", ASHA),
        entry("POST", "Patient", {**ASHA, "gender": "x"}),
        entry("POST", "Patient", ASHA),
    ]
    first, second = (batch(as_alice, *sent, idempotency_key="k1") for _ in range(2))
    assert statuses(first) == ["201", "400", "201"]
    assert second.content == first.content
    assert second.headers["Idempotency-Replayed"] == "true"
    assert Patient.objects.count() == 2
    assert batch(as_alice, *sent[:1], idempotency_key="k1").status_code == 422


def test_a_hundred_entries_take_a_bounded_number_of_statements_each(as_alice: LoggedInClient, alice: User) -> None:
    patients = [make_patient(alice) for _ in range(30)]

    def statements(count: int) -> int:
        sent = [
            found
            for patient in patients[:count]
            for found in (
                entry("GET", f"Patient/{patient.pk}"),
                entry("PUT", f"Patient/{patient.pk}", changed(patient.pk)),
                entry("POST", "Patient", ASHA),
            )
        ]
        with CaptureQueriesContext(connection) as queries:
            assert set(statuses(batch(as_alice, *sent))) == {"200", "201"}
        return len(queries)

    few, many = statements(3), statements(30)
    assert (many - few) / 27 <= 24
    answer = batch(as_alice, *[entry("POST", "Patient", ASHA)] * 100)
    assert statuses(answer) == ["201"] * 100


def test_each_entry_counts_for_the_general_limit(as_alice: LoggedInClient, settings: Any) -> None:
    settings.RATE_LIMIT, settings.THROTTLE_SCALE = 50, 1
    assert batch(as_alice, *[entry("GET", "metadata")] * 60).status_code == 200
    assert send(as_alice, "GET", "/metadata").status_code == 429


def test_a_batch_that_takes_too_long_or_answers_too_much_writes_nothing(
    as_alice: LoggedInClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = [entry("POST", "Patient", ASHA)] * 2
    monkeypatch.setattr(transactions, "LONGEST", -1)
    slow = batch(as_alice, *sent)
    assert (slow.status_code, expressions(slow), slow.headers["Retry-After"]) == (503, [("too-costly", [])], "5")
    monkeypatch.undo()
    monkeypatch.setattr(transactions, "LARGEST_ANSWER", 200)
    large = batch(as_alice, *sent)
    assert (large.status_code, expressions(large)) == (413, [("too-costly", [])])
    assert not Patient.objects.exists()


def test_a_batch_that_writes_is_on_disk_when_it_is_answered_even_if_it_reads_too(
    as_alice: LoggedInClient, alice: User
) -> None:
    one = f"Patient/{make_patient(alice).pk}"

    def is_durable(*sent: Any) -> bool:
        assert batch(as_alice, *sent).status_code == 200
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('synchronous_commit'), set_config('synchronous_commit', 'on', true)")
            return bool(cursor.fetchone()[0] == "on")

    assert is_durable(entry("POST", "Patient", ASHA), entry("GET", one))
    assert not is_durable(entry("GET", one))


def test_the_answer_tells_nothing_of_whose_a_foreign_patient_is(as_alice: LoggedInClient, bob: User) -> None:
    theirs = make_patient(bob)
    for method, body in (("GET", False), ("PUT", True), ("DELETE", False)):
        found = [
            body_of(batch(as_alice, entry(method, f"Patient/{key}", changed(key) if body else None)))
            for key in (theirs.pk, 2**40)
        ]
        assert found[0] == found[1]
        assert found[0]["entry"][0]["response"]["status"] == "404"
