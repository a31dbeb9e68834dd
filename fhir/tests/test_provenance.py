"""Provenance: who made which version of a record (https://hl7.org/fhir/R4/provenance.html)."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.delegations.models import Delegation
from accounts.models import User
from accounts.personal_tokens.rules import create_token
from audit.models import AccessLog
from conftest import LoggedInClient, logged_in
from doctors.models import Doctor, DoctorEvent
from doctors.tests.factories import make_doctor
from fhir.tests.test_interactions import FHIR, diagnostics, send, without_request_id
from patients.models import Patient, PatientEvent
from patients.tests.factories import make_patient

BASE = "http://testserver/fhir"


@pytest.fixture
def patient(as_alice: LoggedInClient) -> Patient:
    """Created by alice, changed for a reason, and deleted."""
    at = f"/api/patients/{as_alice.post('/api/patients/', {'name': 'Asha'}).json()['id']}/"
    as_alice.patch(at, {"name": "Asha Rao"}, headers={"X-Change-Reason": "misspelt"})
    as_alice.delete(at)
    return Patient.objects.get()


def ids(patient: Patient) -> list[str]:
    return [f"patient-{key}" for key in PatientEvent.objects.order_by("pgh_id").values_list("pgh_id", flat=True)]


def test_every_version_of_a_patient_has_its_provenance(as_alice: LoggedInClient, alice: User, patient: Patient) -> None:
    events = list(PatientEvent.objects.order_by("pgh_id"))
    answers = [send(as_alice, "GET", f"/Provenance/{key}") for key in ids(patient)]
    assert [(one.status_code, one.headers["Content-Type"]) for one in answers] == [(200, FHIR)] * 3
    assert [one.resource for one in answers] == [
        {
            "resourceType": "Provenance",
            "id": f"patient-{event.pgh_id}",
            "meta": {"lastUpdated": f"{event.pgh_created_at:%Y-%m-%dT%H:%M:%S.%fZ}"},
            "target": [{"reference": f"Patient/{patient.pk}/_history/{version}"}],
            "recorded": f"{event.pgh_created_at:%Y-%m-%dT%H:%M:%S.%fZ}",
            **({"reason": [{"text": "misspelt"}]} if version == 2 else {}),
            "activity": {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/v3-DataOperation",
                        "code": code,
                        "display": code.lower(),
                    }
                ]
            },
            "agent": [
                {
                    "type": {
                        "coding": [
                            {
                                "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
                                "code": "author",
                                "display": "Author",
                            }
                        ]
                    },
                    "who": {
                        "identifier": {"system": "urn:healthcare:user", "value": str(alice.pk)},
                        "display": "Alice",
                    },
                }
            ],
        }
        for event, version, code in zip(events, (1, 2, 3), ("CREATE", "UPDATE", "DELETE"), strict=True)
    ]


def test_every_target_is_a_version_that_can_be_read(as_alice: LoggedInClient, patient: Patient) -> None:
    for key, status in zip(ids(patient), (200, 200, 410), strict=True):
        (target,) = send(as_alice, "GET", f"/Provenance/{key}").resource["target"]
        assert send(as_alice, "GET", f"/{target['reference']}").status_code == status


def test_a_command_has_no_name(as_alice: LoggedInClient, alice: User) -> None:
    make_patient(alice)
    (agent,) = send(as_alice, "GET", f"/Provenance/{ids(Patient.objects.get())[0]}").resource["agent"]
    assert agent["who"] == {"display": "A command, or the database"}


def test_the_provenance_of_a_doctor_needs_a_login(as_bob: LoggedInClient, anonymous: APIClient, alice: User) -> None:
    doctor = make_doctor(alice)
    Doctor.objects.filter(pk=doctor.pk).update(name="Dr. Changed")
    keys = DoctorEvent.objects.order_by("pgh_id").values_list("pgh_id", flat=True)
    resources = [send(as_bob, "GET", f"/Provenance/practitioner-{key}").resource for key in keys]
    assert [one["target"] for one in resources] == [
        [{"reference": f"Practitioner/{doctor.pk}/_history/{version}"}] for version in (1, 2)
    ]
    assert send(anonymous, "GET", f"/Provenance/practitioner-{keys[0]}").status_code == 401


def test_what_is_not_yours_reads_like_what_is_not_there(as_bob: LoggedInClient, patient: Patient) -> None:
    answers = [
        send(as_bob, "GET", f"/Provenance/{key}")
        for key in (ids(patient)[0], f"patient-{2**40}", f"doctor-{2**40}", "patient-x", "7")
    ]
    assert [one.status_code for one in answers] == [404] * 5
    assert len({without_request_id(one) for one in answers}) == 1


def test_a_delegate_and_a_token_that_may_read_read_provenance(
    as_alice: LoggedInClient, alice: User, patient: Patient, make_user: Any
) -> None:
    asha = make_user("asha")
    Delegation.objects.create(owner=alice, delegate=asha, role="read")
    at = f"/Provenance/{ids(patient)[0]}"
    expected = send(as_alice, "GET", at).resource
    assert send(logged_in(asha), "GET", at, x_acting_for="alice").resource == expected
    assert send(logged_in(asha), "GET", at).status_code == 404
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {create_token(alice, name='t', scope='read').text}")
    assert send(client, "GET", at).resource == expected


def test_a_search_finds_the_versions_of_a_record(as_alice: LoggedInClient, alice: User, patient: Patient) -> None:
    make_patient(alice)
    doctor = make_doctor(alice)
    keys = [f"patient-{event.pgh_id}" for event in PatientEvent.objects.filter(id=patient.pk).order_by("-pgh_id")]
    of_doctor = f"practitioner-{DoctorEvent.objects.get(id=doctor.pk).pgh_id}"
    resources = {key: send(as_alice, "GET", f"/Provenance/{key}").resource for key in (*keys, of_doctor)}
    for query, found in {
        f"target=Patient/{patient.pk}": keys,
        f"target={BASE}/Patient/{patient.pk}": keys,
        f"patient=Patient/{patient.pk}": keys,
        f"target=Practitioner/{doctor.pk}": [of_doctor],
        f"_id={keys[1]},{keys[2]}": keys[1:],
        f"target=Patient/{patient.pk}&recorded={resources[keys[1]]['recorded']}": keys[1:2],
        f"target=Patient/{2**40}": [],
        f"target=Group/{patient.pk}": [],
    }.items():
        answer = send(as_alice, "GET", f"/Provenance?{query}")
        assert answer.status_code == 200, answer.resource
        assert answer.resource.get("entry", []) == [
            {"fullUrl": f"{BASE}/Provenance/{key}", "resource": resources[key], "search": {"mode": "match"}}
            for key in found
        ], query
    page = send(as_alice, "GET", f"/Provenance?target=Patient/{patient.pk}&_count=2").resource
    following = next(link["url"] for link in page["link"] if link["relation"] == "next")
    rest = send(as_alice, "GET", following.removeprefix(BASE)).resource
    assert [one["resource"]["id"] for one in page["entry"] + rest["entry"]] == keys
    rows = AccessLog.objects.filter(action="patient.history").order_by("-pk").values_list("patient_ids", flat=True)
    assert rows[0] == [patient.pk]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("", "target"),
        ("recorded=2026", "target"),
        ("target=7", "target"),
        ("target=Patient/7/_history/1", "target"),
        ("target=Patient/7,Practitioner/7", "target"),
    ],
)
def test_a_search_names_records_of_one_type(as_alice: LoggedInClient, query: str, name: str) -> None:
    answer = send(as_alice, "GET", f"/Provenance?{query}")
    assert (answer.status_code, diagnostics(answer)[0][1]) == (400, [f"http.{name}"])


def test_a_search_for_another_owners_patient_finds_nothing(as_bob: LoggedInClient, patient: Patient) -> None:
    answer = send(as_bob, "GET", f"/Provenance?target=Patient/{patient.pk}")
    assert (answer.status_code, answer.resource.get("entry")) == (200, None)


def test_the_statements_of_a_page_do_not_grow_with_its_versions(as_alice: LoggedInClient, alice: User) -> None:
    patient, counts = make_patient(alice), []
    for number in range(6):
        Patient.objects.filter(pk=patient.pk).update(name=f"Asha {number}")
        if number in {0, 5}:
            with CaptureQueriesContext(connection) as captured:
                assert send(as_alice, "GET", f"/Provenance?target=Patient/{patient.pk}").status_code == 200
            counts.append(len(captured))
    assert counts[0] == counts[1]


def test_provenance_cannot_be_written(as_alice: LoggedInClient, patient: Patient) -> None:
    for method in ("PUT", "PATCH", "DELETE", "POST"):
        answer = send(as_alice, method, f"/Provenance/{ids(patient)[0]}", {"resourceType": "Provenance"})
        assert (answer.status_code, diagnostics(answer)) == (405, [("not-supported", [])])
        assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_reads_of_a_patients_provenance_are_in_the_access_log(
    as_alice: LoggedInClient, as_bob: LoggedInClient, patient: Patient
) -> None:
    send(as_alice, "GET", f"/Provenance/{ids(patient)[0]}")
    send(as_bob, "GET", f"/Provenance/{ids(patient)[0]}")
    rows = AccessLog.objects.filter(action="patient.history").order_by("pk").values_list("patient_ids", "outcome")
    assert [*rows] == [([patient.pk], 200), ([], 404)]
