"""/api/doctors/<id>/patients/: the caller's own patients whom a doctor treats."""

import datetime
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from audit.models import AccessLog
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from mappings.models import Mapping
from mappings.tests.factories import make_mapping, make_past_mapping
from patients.models import Patient
from patients.tests.factories import make_patient


@pytest.fixture
def doctor(bob: User) -> Doctor:
    return make_doctor(bob)


def path(doctor: Doctor) -> str:
    return f"/api/doctors/{doctor.pk}/patients/"


def test_each_caller_sees_only_own_patients_of_a_doctor(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User, doctor: Doctor
) -> None:
    first, second, other = make_patient(alice), make_patient(alice, name="Second"), make_patient(bob)
    mappings = [make_mapping(patient, doctor) for patient in (first, second, other)]
    make_mapping(make_patient(alice), make_doctor(alice))
    expected = [
        as_alice.get(f"/api/patients/{mapping.patient_id}/").json() | {"mapping": mapping.pk}
        for mapping in (mappings[1], mappings[0])
    ]
    assert as_alice.get(path(doctor)).json() == expected
    assert [row["mapping"] for row in as_bob.get(path(doctor)).json()] == [mappings[2].pk]


def test_deleted_patients_and_ended_assignments_are_not_listed(
    as_alice: LoggedInClient, alice: User, doctor: Doctor
) -> None:
    deleted, ended = make_mapping(make_patient(alice), doctor), make_mapping(make_patient(alice), doctor)
    as_alice.delete(f"/api/patients/{deleted.patient_id}/")
    as_alice.delete(f"/api/mappings/{ended.pk}/")
    assert as_alice.get(path(doctor)).json() == []
    assert [row["mapping"] for row in as_alice.get(f"{path(doctor)}?active=false").json()] == [ended.pk]


def test_an_unknown_and_a_deleted_doctor_are_404(as_alice: LoggedInClient, doctor: Doctor) -> None:
    Doctor.objects.end()
    answers = [as_alice.get(f"/api/doctors/{number}/patients/") for number in (doctor.pk, 2**40)]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert {**answers[0].json(), "request_id": ""} == {**answers[1].json(), "request_id": ""}


def test_an_anonymous_caller_is_refused(anonymous: APIClient, doctor: Doctor) -> None:
    assert anonymous.get(f"/api/doctors/{doctor.pk}/").status_code == 200
    assert anonymous.get(path(doctor)).status_code == 401


def test_the_listed_patients_are_recorded_as_read(as_alice: LoggedInClient, alice: User, doctor: Doctor) -> None:
    patients = [make_patient(alice) for _ in range(3)]
    for patient in patients:
        make_mapping(patient, doctor)
    as_alice.get(f"{path(doctor)}?limit=2")
    access = AccessLog.objects.get()
    assert (access.actor, access.action, access.outcome) == (alice.pk, "mapping.patients", 200)
    assert access.patient_ids == [patients[1].pk, patients[2].pk]


def test_as_of_a_time_the_patients_are_listed_as_they_were(
    as_alice: LoggedInClient, alice: User, doctor: Doctor
) -> None:
    patient = make_patient(alice, birth_date=datetime.date(1990, 7, 1))
    mapping = make_mapping(patient, doctor)
    then, answered = timezone.now().isoformat().replace("+", "%2B"), as_alice.get(path(doctor)).json()
    as_alice.patch(f"/api/patients/{patient.pk}/", {"name": "Renamed"})
    as_alice.delete(f"/api/mappings/{mapping.pk}/")
    as_alice.delete(f"/api/doctors/{doctor.pk}/")
    assert as_alice.get(f"{path(doctor)}?as_of={then}").json() == answered
    assert as_alice.get(f"{path(doctor)}?as_of={timezone.now().isoformat().replace('+', '%2B')}").status_code == 404


COSTS = {
    "": ["entering as the caller, the page and the row of the access log"],
    "?active=false": ["session and user of the token", "the doctor", "the page with its patients", "the access log"],
    "?as_of={now}": [
        "session and user",
        "since when the past is kept",
        "the doctor then",
        "the page",
        "the patients then",
        "the access log",
    ],  # fmt: skip
}


@pytest.mark.parametrize("rows", [10, 100])
@pytest.mark.parametrize("query", COSTS)
def test_the_query_count_of_the_list_does_not_grow_with_its_rows(
    as_alice: LoggedInClient, alice: User, doctor: Doctor, query: str, rows: int, settings: Any
) -> None:
    settings.FAST_PATH = "on"
    for _ in range(rows):
        make_mapping(make_patient(alice), doctor)
    if "active" in query:
        Mapping.objects.end()
    url = path(doctor) + query.format(now=timezone.now().isoformat().replace("+", "%2B"))
    with CaptureQueriesContext(connection) as queries:
        assert len(as_alice.get(url).json()) == rows
    statements = [one["sql"] for one in queries if not one["sql"].startswith(("SAVEPOINT", "RELEASE"))]
    assert len(statements) == len(COSTS[query]), statements


def test_a_patient_is_listed_once_for_each_past_assignment(
    as_alice: LoggedInClient, alice: User, doctor: Doctor
) -> None:
    patient = make_patient(alice)
    past = [make_past_mapping(patient, doctor).pk for _ in range(2)]
    rows = as_alice.get(f"{path(doctor)}?active=false").json()
    assert [(row["id"], row["mapping"]) for row in rows] == [(patient.pk, past[1]), (patient.pk, past[0])]


def test_each_patient_equals_the_answer_of_the_patients_api(
    as_alice: LoggedInClient, alice: User, doctor: Doctor
) -> None:
    patient = make_patient(alice, birth_year=1990)
    mapping = make_mapping(Patient.objects.get(pk=patient.pk), doctor)
    (row,) = as_alice.get(path(doctor)).json()
    assert row == as_alice.get(f"/api/patients/{patient.pk}/").json() | {"mapping": mapping.pk}
