"""AuditEvent: the access log (https://hl7.org/fhir/R4/auditevent.html)."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.delegations.models import Delegation
from accounts.models import User
from accounts.personal_tokens.rules import create_token
from audit.models import AccessLog, Basis
from conftest import LoggedInClient, logged_in
from fhir.audit_event import INTERACTION_OF
from fhir.tests.test_interactions import FHIR, diagnostics, send, without_request_id
from patients.models import Patient
from patients.tests.factories import make_patient

BASE = "http://testserver/fhir"


@pytest.fixture
def patient(alice: User) -> Patient:
    return make_patient(alice)


def event_id(patient: Patient, **lookup: Any) -> str:
    access = AccessLog.objects.filter(patient_ids__contains=[patient.pk], **lookup).latest("id")
    return f"{access.pk}-{patient.pk}"


def record(patient: Patient, action: str, *, actor: int, outcome: int = 200, basis: Basis = Basis.OWNER) -> None:
    AccessLog.objects.record(actor, action, [patient.pk], basis=basis, request_id="", outcome=outcome, pure_read=False)


def test_an_access_is_an_audit_event(as_alice: LoggedInClient, alice: User, patient: Patient) -> None:
    request_id = as_alice.get(f"/api/patients/{patient.pk}/")["X-Request-Id"]
    (row,) = as_alice.get(f"/api/patients/{patient.pk}/access-log/").json()
    at = f"/AuditEvent/{event_id(patient, action='patient.retrieve')}"
    read = send(as_alice, "GET", at)
    assert (read.status_code, read.headers["Content-Type"]) == (200, FHIR)
    assert read.resource == {
        "resourceType": "AuditEvent",
        "id": at.removeprefix("/AuditEvent/"),
        "meta": {"lastUpdated": row["at"]},
        "type": {
            "system": "http://terminology.hl7.org/CodeSystem/audit-event-type",
            "code": "rest",
            "display": "RESTful Operation",
        },
        "subtype": [{"system": "http://hl7.org/fhir/restful-interaction", "code": "read"}],
        "action": "R",
        "recorded": row["at"],
        "outcome": "0",
        "outcomeDesc": "HTTP status 200",
        "agent": [
            {
                "role": [{"text": "owner"}],
                "who": {"identifier": {"system": "urn:healthcare:user", "value": str(alice.pk)}, "display": "Alice"},
                "requestor": True,
            }
        ],
        "source": {
            "observer": {"display": "Healthcare API"},
            "type": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/security-source-type",
                    "code": "4",
                    "display": "Application Server",
                }
            ],
        },
        "entity": [
            {
                "what": {"reference": f"Patient/{patient.pk}"},
                "type": {
                    "system": "http://terminology.hl7.org/CodeSystem/audit-entity-type",
                    "code": "1",
                    "display": "Person",
                },
                "role": {
                    "system": "http://terminology.hl7.org/CodeSystem/object-role",
                    "code": "1",
                    "display": "Patient",
                },
                "detail": [
                    {"type": "action", "valueString": "patient.retrieve"},
                    {"type": "request_id", "valueString": request_id},
                ],
            }
        ],
    }


@pytest.mark.parametrize(
    ("recorded", "interaction", "action"),
    [
        *((f"patient.{name}", *codes) for name, codes in INTERACTION_OF.items()),
        ("patient.access_log", "operation", "E"),
        ("mapping.doctors", "operation", "E"),
        ("admin.patient.change", None, "R"),
    ],
)
def test_what_a_request_did_has_codes(
    as_alice: LoggedInClient, alice: User, patient: Patient, recorded: str, interaction: str | None, action: str
) -> None:
    record(patient, recorded, actor=alice.pk)
    event = send(as_alice, "GET", f"/AuditEvent/{event_id(patient)}").resource
    assert [one["code"] for one in event.get("subtype", [])] == ([interaction] if interaction else [])
    assert (event["action"], event["type"]["code"]) == (action, "rest" if interaction else "110110")


@pytest.mark.parametrize(("status", "outcome"), [(200, "0"), (304, "0"), (404, "4"), (409, "4"), (503, "8")])
def test_a_refusal_has_an_outcome(
    as_alice: LoggedInClient, alice: User, patient: Patient, status: int, outcome: str
) -> None:
    record(patient, "patient.retrieve", actor=alice.pk, outcome=status)
    event = send(as_alice, "GET", f"/AuditEvent/{event_id(patient)}").resource
    assert (event["outcome"], event["outcomeDesc"]) == (outcome, f"HTTP status {status}")


def test_a_command_and_an_erased_user_have_no_name(as_alice: LoggedInClient, patient: Patient) -> None:
    for actor, who in (
        (0, {"display": "A command, or the database"}),
        (2**40, {"identifier": {"system": "urn:healthcare:user", "value": str(2**40)}}),
    ):
        record(patient, "patient.file", actor=actor, basis=Basis.STAFF)
        (agent,) = send(as_alice, "GET", f"/AuditEvent/{event_id(patient)}").resource["agent"]
        assert (agent["who"], agent["role"]) == (who, [{"text": "staff"}])


def test_an_access_to_several_patients_is_one_event_of_each(
    as_alice: LoggedInClient, alice: User, bob: User, as_bob: LoggedInClient, patient: Patient
) -> None:
    others = make_patient(bob)
    AccessLog.objects.record(
        bob.pk, "patient.list", [patient.pk, others.pk], basis=Basis.OWNER, request_id="", outcome=200, pure_read=True
    )
    mine, theirs = event_id(patient), event_id(others)
    assert [one["what"] for one in send(as_alice, "GET", f"/AuditEvent/{mine}").resource["entity"]] == [
        {"reference": f"Patient/{patient.pk}"}
    ]
    assert send(as_bob, "GET", f"/AuditEvent/{theirs}").status_code == 200
    answers = [
        send(client, "GET", f"/AuditEvent/{key}")
        for client, key in ((as_alice, theirs), (as_bob, mine), (as_alice, f"{2**40}-{patient.pk}"), (as_alice, "x"))
    ]
    assert [one.status_code for one in answers] == [404] * 4
    assert len({without_request_id(one) for one in answers}) == 1


def test_a_delegate_and_a_token_that_may_read_read_the_log(
    as_alice: LoggedInClient, alice: User, patient: Patient, make_user: Any
) -> None:
    asha = make_user("asha")
    Delegation.objects.create(owner=alice, delegate=asha, role="read")
    as_asha = logged_in(asha)
    send(as_asha, "GET", f"/Patient/{patient.pk}", x_acting_for="alice")
    at = f"/AuditEvent/{event_id(patient, action='patient.retrieve')}"
    event = send(as_asha, "GET", at, x_acting_for="alice").resource
    assert (event["agent"][0]["role"], event["agent"][0]["who"]["display"]) == ([{"text": "delegate"}], "Asha")
    assert send(as_asha, "GET", at).status_code == 404
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {create_token(alice, name='t', scope='read').text}")
    assert send(client, "GET", at).resource == event


def test_the_log_of_a_deleted_patient_is_not_shown(as_alice: LoggedInClient, patient: Patient) -> None:
    as_alice.get(f"/api/patients/{patient.pk}/")
    key = event_id(patient)
    Patient.objects.filter(pk=patient.pk).end()
    assert as_alice.get(f"/api/patients/{patient.pk}/access-log/").status_code == 404
    assert send(as_alice, "GET", f"/AuditEvent/{key}").status_code == 404


def test_a_search_finds_the_accesses_to_patients(
    as_alice: LoggedInClient, alice: User, bob: User, patient: Patient
) -> None:
    other, theirs = make_patient(alice), make_patient(bob)
    AccessLog.objects.record(
        alice.pk, "patient.list", [patient.pk, other.pk], basis=Basis.OWNER, request_id="", outcome=200, pure_read=True
    )
    record(patient, "patient.history", actor=alice.pk)
    record(theirs, "patient.history", actor=bob.pk)
    latest, listed, of_other = event_id(patient), event_id(patient, action="patient.list"), event_id(other)
    at = AccessLog.objects.get(pk=int(latest.split("-")[0])).at
    resources = {key: send(as_alice, "GET", f"/AuditEvent/{key}").resource for key in (latest, listed, of_other)}
    until = f"date=le{at:%Y-%m-%dT%H:%M:%S.%fZ}"  # reads add to the log
    for query, keys in {
        f"entity=Patient/{patient.pk}&{until}": [latest, listed],
        f"patient={patient.pk}&{until}": [latest, listed],
        f"entity={other.pk},{patient.pk}&{until}": [latest, *sorted([listed, of_other], reverse=True)],
        f"entity={patient.pk}&date={at:%Y-%m-%dT%H:%M:%S.%fZ}": [latest],
        f"entity={patient.pk}&date=lt{at:%Y-%m-%dT%H:%M:%S.%fZ}": [listed],
        f"entity={patient.pk}&date=lt2020-01-01": [], f"_id={latest},x": [latest], f"entity={theirs.pk}": [],
        f"entity={2**40}": [], f"entity=Practitioner/{patient.pk}": [],
    }.items():  # fmt: skip
        answer = send(as_alice, "GET", f"/AuditEvent?{query}")
        assert answer.status_code == 200, answer.resource
        assert answer.resource.get("entry", []) == [
            {"fullUrl": f"{BASE}/AuditEvent/{key}", "resource": resources[key], "search": {"mode": "match"}}
            for key in keys
        ], query
    page = send(as_alice, "GET", f"/AuditEvent?entity={patient.pk},{other.pk}&{until}&_count=2").resource
    following = next(link["url"] for link in page["link"] if link["relation"] == "next")
    rest = send(as_alice, "GET", following.removeprefix(BASE)).resource
    assert len(page["entry"] + rest["entry"]) == len({one["fullUrl"] for one in page["entry"] + rest["entry"]}) == 3


@pytest.mark.parametrize("query", ["", "date=2026", "entity:missing=false", "entity=&date=2026"])
def test_the_whole_log_is_not_searched(as_alice: LoggedInClient, query: str) -> None:
    answer = send(as_alice, "GET", f"/AuditEvent?{query}")
    assert (answer.status_code, diagnostics(answer)[0][1]) in [
        (400, ["http.entity"]),
        (400, ["http.entity:missing"]),
    ]


def test_a_search_for_another_owners_patient_finds_nothing(
    as_alice: LoggedInClient, as_bob: LoggedInClient, patient: Patient
) -> None:
    as_alice.get(f"/api/patients/{patient.pk}/")
    answers = [send(as_bob, "GET", f"/AuditEvent?entity=Patient/{key}") for key in (patient.pk, 2**40)]
    first, second = (one.resource for one in answers)
    assert [one.get("entry") for one in (first, second)] == [None, None]
    assert {*first} == {*second}
    assert not AccessLog.objects.filter(action="patient.access_log", patient_ids__contains=[patient.pk]).exists()


def test_the_statements_of_a_page_do_not_grow_with_its_events(
    as_alice: LoggedInClient, alice: User, patient: Patient
) -> None:
    counts = []
    for _ in range(2):
        for _ in range(3):
            record(patient, "patient.retrieve", actor=alice.pk)
        with CaptureQueriesContext(connection) as captured:
            assert send(as_alice, "GET", f"/AuditEvent?entity={patient.pk}").status_code == 200
        counts.append(len(captured))
    assert counts[0] == counts[1]


def test_the_log_cannot_be_written(as_alice: LoggedInClient, patient: Patient) -> None:
    as_alice.get(f"/api/patients/{patient.pk}/")
    for method in ("PUT", "PATCH", "DELETE", "POST"):
        answer = send(as_alice, method, f"/AuditEvent/{event_id(patient)}", {"resourceType": "AuditEvent"})
        assert (answer.status_code, diagnostics(answer)) == (405, [("not-supported", [])])
        assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_reads_of_the_log_are_in_the_log(as_alice: LoggedInClient, as_bob: LoggedInClient, patient: Patient) -> None:
    as_alice.get(f"/api/patients/{patient.pk}/")
    at = f"/AuditEvent/{event_id(patient)}"
    send(as_alice, "GET", at)
    send(as_bob, "GET", at)
    rows = AccessLog.objects.order_by("pk").values_list("action", "patient_ids", "outcome")
    assert [*rows][1:] == [
        ("patient.access_log", [patient.pk], 200),
        ("patient.access_log", [patient.pk], 404),
    ]
