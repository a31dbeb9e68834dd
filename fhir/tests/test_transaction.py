"""POST /fhir with a transaction: all entries or none, with references between them."""

from typing import Any

import pytest

from accounts.models import User
from audit.models import AccessLog
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from fhir.tests.bundles import (
    BASE,
    FAUCI,
    URN,
    body_of,
    bundle,
    changed,
    entry,
    expressions,
    linked,
    statuses,
    transaction,
)
from fhir.tests.test_interactions import ASHA, send
from healthcare.api.models import IdempotencyRecord
from healthcare.tests.concurrent_calls import call_concurrently, sorted_statuses
from healthcare.tests.live import LiveServer
from mappings.tests.factories import make_mapping
from patients.models import Patient, PatientEvent
from patients.tests.factories import make_patient


def reference(answer: Any, place: int) -> str:
    """The link of the patient in an entry of the answer."""
    return str(answer.resource["entry"][place]["resource"]["link"][0]["other"]["reference"])


def test_entries_are_processed_in_the_order_of_r4_and_answered_in_their_own(
    as_alice: LoggedInClient, alice: User
) -> None:
    kept, gone = make_patient(alice), make_patient(alice)
    answer = transaction(
        as_alice,
        entry("GET", f"Patient/{kept.pk}"),
        entry("PUT", f"Patient/{kept.pk}", {**changed(kept.pk), "link": linked(f"{URN}1")["link"]}),
        entry("POST", "Patient", ASHA, f"{URN}1"),
        entry("DELETE", f"Patient/{gone.pk}"),
        entry("GET", f"Patient/{gone.pk}/_history/1"),
    )
    assert statuses(answer) == ["200", "200", "201", "204", "200"]
    assert answer.resource["type"] == "transaction-response"
    created = Patient.objects.latest("pk")
    read, written, made, removed, _ = answer.resource["entry"]
    assert read["resource"] == written["resource"] == send(as_alice, "GET", f"/Patient/{kept.pk}").resource
    assert reference(answer, 1) == f"Patient/{created.pk}"
    assert made["response"]["location"] == f"{BASE}/Patient/{created.pk}/_history/1"
    assert removed == {"response": {"status": "204"}}


def test_nothing_of_a_transaction_that_fails_is_written(as_alice: LoggedInClient, alice: User) -> None:
    kept, gone, doctor = make_patient(alice), make_patient(alice), make_doctor(alice)
    events = PatientEvent.objects.count()
    sent = [
        entry("GET", f"Patient/{kept.pk}"),
        entry("PUT", f"Patient/{kept.pk}", changed(kept.pk)),
        entry("POST", "Practitioner", FAUCI),
        entry("POST", "Patient", {**ASHA, "birthDate": "1990-02-31"}),
        entry("DELETE", f"Patient/{gone.pk}"),
        entry("DELETE", f"Practitioner/{doctor.pk}"),
    ]
    answer = transaction(as_alice, *sent, idempotency_key="k1")
    assert (answer.status_code, expressions(answer)) == (400, [("value", ["Bundle.entry[3].resource.birthDate"])])
    assert body_of(answer)["id"] == "<request id>"
    assert {*Patient.objects.values_list("name", "deleted_at")} == {("John Smith", None)}
    assert [*Doctor.objects.values_list("pk", "deleted_at")] == [(doctor.pk, None)]
    assert (PatientEvent.objects.count(), AccessLog.objects.count(), IdempotencyRecord.objects.count()) == (
        events,
        0,
        0,
    )
    sent[3]["resource"]["birthDate"] = "1990-02-28"
    assert statuses(transaction(as_alice, *sent, idempotency_key="k1")) == ["200", "200", "201", "201", "204", "204"]


def test_a_transaction_fails_with_the_status_of_its_entry(as_alice: LoggedInClient, alice: User, bob: User) -> None:
    mine, theirs, gone = make_patient(alice), make_patient(bob), make_patient(alice)
    doctor = make_doctor(alice)
    make_mapping(mine, doctor)
    send(as_alice, "DELETE", f"/Patient/{gone.pk}")
    one = f"Patient/{mine.pk}"
    link = {"generalPractitioner": [{"reference": f"Practitioner/{make_doctor(alice).pk}"}]}
    cases: list[tuple[Any, int, Any]] = [
        (entry("GET", f"Patient/{theirs.pk}"), 404, ("not-found", ["Bundle.entry[1]"])),
        (entry("PUT", f"Patient/{gone.pk}", changed(gone.pk)), 410, ("deleted", ["Bundle.entry[1]"])),
        (entry("PUT", one, changed(mine.pk), ifMatch='W/"9"'), 412, ("conflict", ["Bundle.entry[1]"])),
        (entry("DELETE", f"Practitioner/{doctor.pk}"), 409, ("conflict", ["Bundle.entry[1]"])),
        (entry("GET", f"{one}?colour=red"), 400, ("not-supported", ["Bundle.entry[1].request"])),
        (entry("PUT", one, changed(1)), 400, ("value", ["Bundle.entry[1].resource.id"])),
        (entry("PUT", one, {**changed(mine.pk), **link}), 422,
         ("business-rule", ["Bundle.entry[1].resource.generalPractitioner[0]"])),
        (entry("POST", "Patient", linked(f"Patient/{theirs.pk}")), 400,
         ("not-found", ["Bundle.entry[1].resource.link[0].other.reference"])),
    ]  # fmt: skip
    before = Patient.objects.count()
    for failing, status, issue in cases:
        answer = transaction(as_alice, entry("POST", "Patient", ASHA), failing)
        assert (answer.status_code, expressions(answer)) == (status, [issue])
    assert Patient.objects.count() == before


def test_a_refused_entry_is_recorded_although_nothing_else_is(as_alice: LoggedInClient, alice: User, bob: User) -> None:
    mine, theirs = make_patient(alice), make_patient(bob)
    transaction(as_alice, entry("PUT", f"Patient/{mine.pk}", changed(mine.pk)), entry("GET", f"Patient/{theirs.pk}"))
    assert [*AccessLog.objects.values_list("action", "patient_ids", "outcome")] == [
        ("patient.retrieve", [theirs.pk], 404)
    ]


def test_references_lead_to_the_resources_that_are_created(as_alice: LoggedInClient) -> None:
    answer = transaction(
        as_alice,
        entry("POST", "Patient", linked(f"{URN}2"), f"{URN}1"),
        entry("POST", "Patient", linked("urn:oid:2.999.1"), f"{URN}2"),
        entry("POST", "Patient", linked("http://old.example/fhir/Patient/a"), "urn:oid:2.999.1"),
        entry("POST", "Patient", linked("Patient/b"), "http://old.example/fhir/Patient/a"),
        entry("POST", "Patient", linked("http://elsewhere.example/Patient/7"), "http://old.example/fhir/Patient/b"),
        entry("POST", "Patient", {**ASHA, "contained": [{"resourceType": "Patient", "id": "c"}],
                                  "link": [{"other": {"reference": "#c"}, "type": "seealso"}]}),
    )  # fmt: skip
    assert statuses(answer) == ["201"] * 6
    ids = [one["resource"]["id"] for one in answer.resource["entry"]]
    assert [reference(answer, place) for place in range(6)] == [
        *(f"Patient/{key}" for key in ids[1:5]), "http://elsewhere.example/Patient/7", "#c",
    ]  # fmt: skip
    assert [one["response"]["etag"] for one in answer.resource["entry"]] == ['W/"1"'] * 6
    assert send(as_alice, "GET", f"/Patient/{ids[0]}").resource == answer.resource["entry"][0]["resource"]


@pytest.mark.parametrize(
    ("sent", "issue"),
    [
        ([entry("POST", "Patient", linked(f"{URN}9"), f"{URN}1")],
         ("not-found", ["Bundle.entry[0].resource.link[0].other.reference"])),
        ([entry("POST", "Patient", linked(f"{URN}1"), f"{URN}1")], ("not-supported", ["Bundle.entry[0].resource"])),
        ([entry("POST", "Patient", ASHA), entry("POST", "Patient", linked(f"{URN}2"), f"{URN}1"),
          entry("POST", "Patient", linked(f"{URN}1"), f"{URN}2")], ("not-supported", ["Bundle.entry[1].resource"])),
        ([entry("POST", "Patient", ASHA, f"{URN}1"), entry("POST", "Patient", ASHA, f"{URN}1")],
         ("invariant", ["Bundle.entry[1].fullUrl"])),
        ([entry("PUT", "Patient/1", changed(1)), entry("PUT", f"{BASE}/Patient/1/", changed(1))],
         ("duplicate", ["Bundle.entry[1].request.url"])),
        ([entry("PUT", "Patient/1", changed(1)), entry("DELETE", "Patient/1")],
         ("duplicate", ["Bundle.entry[1].request.url"])),
    ],
)  # fmt: skip
def test_a_transaction_that_contradicts_itself_is_refused(as_alice: LoggedInClient, sent: Any, issue: Any) -> None:
    answer = transaction(as_alice, *sent)
    assert (answer.status_code, expressions(answer)) == (400, [issue])
    assert not Patient.objects.exists()


def test_a_reference_to_a_patient_whom_the_transaction_deletes_is_refused(
    as_alice: LoggedInClient, alice: User
) -> None:
    gone = make_patient(alice)
    answer = transaction(
        as_alice, entry("POST", "Patient", linked(f"Patient/{gone.pk}")), entry("DELETE", f"Patient/{gone.pk}")
    )
    assert (answer.status_code, expressions(answer)) == (
        400, [("not-found", ["Bundle.entry[0].resource.link[0].other.reference"])],
    )  # fmt: skip


def test_an_idempotency_key_covers_the_whole_transaction(as_alice: LoggedInClient) -> None:
    sent = [entry("POST", "Patient", linked(f"{URN}2")), entry("POST", "Patient", ASHA, f"{URN}2")]
    first, second = (transaction(as_alice, *sent, idempotency_key="k1") for _ in range(2))
    assert statuses(first) == ["201", "201"]
    assert (second.content, second.headers["Idempotency-Replayed"]) == (first.content, "true")
    assert Patient.objects.count() == 2


def patients_of(live: LiveServer, token: str, count: int) -> list[int]:
    return [live.call("POST", "/api/patients/", {"name": "John"}, token).json["id"] for _ in range(count)]


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_opposite_bundles_at_once_do_not_deadlock(live: LiveServer, kind: str) -> None:
    _, tokens = live.register()
    token = tokens["access"]
    doctor = live.call("POST", "/api/doctors/", {"name": "Dr. X"}, token).json["id"]
    first, second = patients_of(live, token, 2)
    entries = [
        entry("PUT", f"Patient/{first}", changed(first)),
        entry("PUT", f"Practitioner/{doctor}", changed(doctor, kind="Practitioner")),
        entry("PUT", f"Patient/{second}", changed(second)),
    ]
    calls = [
        (lambda sent={"resourceType": "Bundle", "type": kind, "entry": order}: live.call("POST", "/fhir", sent, token))
        for order in [entries, entries[::-1]] * 4
    ]
    answers = call_concurrently(*calls)
    assert sorted_statuses(answers) == [200] * 8, [answer.body for answer in answers]
    assert {one["response"]["status"] for answer in answers for one in answer.json["entry"]} == {"200"}


def test_opposite_deletes_and_updates_at_once_do_not_deadlock(live: LiveServer) -> None:
    _, tokens = live.register()
    token = tokens["access"]
    for _ in range(3):
        first, second = patients_of(live, token, 2)
        calls = [
            (
                lambda gone=gone, kept=kept: live.call(
                    "POST",
                    "/fhir",
                    {
                        "resourceType": "Bundle",
                        "type": "transaction",
                        "entry": [entry("DELETE", f"Patient/{gone}"), entry("PUT", f"Patient/{kept}", changed(kept))],
                    },
                    token,
                )
            )
            for gone, kept in ((first, second), (second, first))
        ]
        assert sorted_statuses(call_concurrently(*calls)) == [200, 410]


def test_a_transaction_with_a_key_that_is_sent_twice_at_once_is_executed_once(live: LiveServer) -> None:
    _, tokens = live.register()
    token = tokens["access"]
    sent = {"resourceType": "Bundle", "type": "transaction", "entry": [entry("POST", "Patient", ASHA)] * 5}
    headers = {"Idempotency_Key": "once"}
    answers = call_concurrently(*[lambda: live.call("POST", "/fhir", sent, token, **headers)] * 6)
    assert set(sorted_statuses(answers)) <= {200, 409}
    assert len({answer.body for answer in answers if answer.status == 200}) == 1
    assert len(live.call("GET", "/api/patients/", token=token).json) == 5


def numbered(number: str, name: str = "Asha Rao") -> dict[str, Any]:
    return {**ASHA, "name": [{"text": name}], "identifier": [{"system": "http://clinic.example", "value": number}]}


def test_a_conditional_create_creates_or_finds(as_alice: LoggedInClient) -> None:
    condition = "identifier=http://clinic.example|17"
    sent = [
        entry("POST", "Patient", numbered("17"), f"{URN}1", ifNoneExist=condition),
        entry("POST", "Patient", linked(f"{URN}1"), f"{URN}2"),
    ]
    first, second = transaction(as_alice, *sent), transaction(as_alice, *sent)
    assert (statuses(first), statuses(second)) == (["201", "201"], ["200", "201"])
    found = first.resource["entry"][0]["resource"]["id"]
    assert [reference(answer, 1) for answer in (first, second)] == [f"Patient/{found}"] * 2
    assert AccessLog.objects.filter(action="patient.retrieve", patient_ids=[int(found)]).count() == 1
    send(as_alice, "POST", "/Patient", numbered("17"))
    several = transaction(as_alice, *sent)
    assert (several.status_code, expressions(several)) == (412, [("conflict", ["Bundle.entry[0]"])])
    assert Patient.objects.count() == 4


def test_a_search_in_a_reference_finds_one_resource(as_alice: LoggedInClient, alice: User, bob: User) -> None:
    doctor = make_doctor(alice, license_number="MD-1")
    send(as_alice, "POST", "/Patient", numbered("17"))
    known = Patient.objects.get()
    make_patient(bob, identifiers=[{"system": "http://clinic.example", "value": "17"}])
    sent = [
        entry("POST", "Patient", linked("Patient?identifier=http://clinic.example|17")),
        entry("POST", "Patient", linked("Patient?identifier=http://clinic.example|18")),
        entry("POST", "Patient", numbered("18")),
        entry("PUT", f"Patient/{known.pk}", {**changed(known.pk), "extension": [{
            "url": "http://clinic.example/seen-by",
            "valueReference": {"reference": "Practitioner?identifier=MD-1"}}]}),
    ]  # fmt: skip
    answer = transaction(as_alice, *sent)
    assert statuses(answer) == ["201", "201", "201", "200"]
    entries = answer.resource["entry"]
    created = f"Patient/{entries[2]['resource']['id']}"
    assert [reference(answer, place) for place in (0, 1)] == [f"Patient/{known.pk}", created]
    [extension] = entries[3]["resource"]["extension"]
    assert extension["valueReference"]["reference"] == f"Practitioner/{doctor.pk}"


@pytest.mark.parametrize(
    ("search", "status", "code"),
    [
        ("Patient?identifier=http://clinic.example|9", 412, "not-found"),
        ("Patient?gender=male", 412, "multiple-matches"),
        ("Patient?colour=red", 400, "not-supported"),
        ("Patient?_count=1", 400, "invalid"),
        ("Patient?name=John&_sort=name", 400, "invalid"),
        ("Organization?name=x", 404, "not-found"),
    ],
)
def test_a_search_in_a_reference_that_finds_none_or_several_fails(
    as_alice: LoggedInClient, alice: User, search: str, status: int, code: str
) -> None:
    make_patient(alice), make_patient(alice)
    for preference in ({}, {"prefer": "handling=lenient"}):
        answer = transaction(as_alice, entry("POST", "Patient", linked(search)), **preference)
        expected = (status, [(code, ["Bundle.entry[0].resource.link[0].other.reference"])])
        assert (answer.status_code, expressions(answer)) == expected
    assert Patient.objects.count() == 2


def test_a_search_is_an_entry(as_alice: LoggedInClient, alice: User, bob: User) -> None:
    mine = make_patient(alice, name="Asha Rao")
    make_patient(bob, name="Asha Rao")
    single = send(as_alice, "GET", "/Patient?name=asha&_count=5")
    answer = transaction(as_alice, entry("GET", "Patient?name=asha&_count=5"))
    assert answer.resource["entry"] == [{"resource": single.resource, "response": {"status": "200"}}]
    assert [one["resource"]["id"] for one in single.resource["entry"]] == [str(mine.pk)]


def test_opposite_conditional_creates_at_once_do_not_deadlock(live: LiveServer) -> None:
    _, tokens = live.register()
    token = tokens["access"]
    entries = [
        entry("POST", "Patient", numbered(number), ifNoneExist=f"identifier=http://clinic.example|{number}")
        for number in ("1", "2", "3")
    ]
    bundles = [bundle("transaction", *order) for order in [entries, entries[::-1]] * 3]
    calls = [(lambda sent=sent: live.call("POST", "/fhir", sent, token)) for sent in bundles]
    assert sorted_statuses(call_concurrently(*calls)) == [200] * 6
    assert len(live.call("GET", "/api/patients/", token=token).json) == 3
