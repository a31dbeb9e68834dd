"""Filters of /api/mappings/ and /api/doctors/."""

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from mappings.tests.factories import make_mapping
from patients.models import Patient
from patients.tests.factories import make_patient


def test_the_list_is_filtered_by_patient_doctor_and_role(as_alice: LoggedInClient, alice: User) -> None:
    patients, doctors = [make_patient(alice) for _ in range(2)], [make_doctor(alice) for _ in range(2)]
    mappings = {
        (p, d): make_mapping(patient, doctor, role=f"Role {p}{d}").pk
        for p, patient in enumerate(patients)
        for d, doctor in enumerate(doctors)
    }

    def found(query: str) -> list[int]:
        return sorted(row["id"] for row in as_alice.get(f"/api/mappings/?{query}").json())

    assert found(f"patient={patients[0].pk}") == [mappings[0, 0], mappings[0, 1]]
    assert found(f"doctor={doctors[1].pk}") == [mappings[0, 1], mappings[1, 1]]
    assert found(f"doctor={doctors[1].pk}&patient={patients[1].pk}") == [mappings[1, 1]]
    assert found("role=role 10") == [mappings[1, 0]]
    assert found("role=role") == []


def test_a_foreign_patient_in_a_filter_reads_like_a_missing_one(
    as_alice: LoggedInClient, alice: User, bob: User
) -> None:
    foreign, gone = make_patient(bob), make_patient(alice)
    Patient.objects.filter(pk=gone.pk).end()
    answers = [as_alice.get(f"/api/mappings/?patient={pk}") for pk in (foreign.pk, gone.pk, 2**40)]
    bodies = [{**answer.json(), "request_id": ""} for answer in answers]
    assert bodies[0] == bodies[1] == bodies[2]
    assert [answer.status_code for answer in answers] == [400] * 3
    assert bodies[0]["errors"] == [
        {"pointer": "/patient", "code": "does_not_exist", "detail": "There is no such record."}
    ]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("specialization=cardiology", ["Rao"]),
        ("specialization=CARDIO", []),
        ("hospital=city hospital", ["Nair", "Rao"]),
        ("hospital=City Hospital&specialization=Oncology", ["Nair"]),
        ("license_number=kmc-1", ["Rao"]),
        ("ordering=name", ["Iyer", "Nair", "Rao"]),
    ],
)
def test_an_anonymous_caller_can_filter_doctors(
    anonymous: APIClient, alice: User, query: str, found: list[str]
) -> None:
    make_doctor(alice, name="Rao", specialization="Cardiology", hospital="City Hospital", license_number="KMC-1")
    make_doctor(alice, name="Nair", specialization="Oncology", hospital="City Hospital")
    make_doctor(alice, name="Iyer")
    gone = make_doctor(alice, name="Gone", hospital="City Hospital")
    Doctor.objects.filter(pk=gone.pk).end()
    assert sorted(row["name"] for row in anonymous.get(f"/api/doctors/?{query}").json()) == found
