"""`?active=false` lists the assignments that have ended."""

import re

import pytest
from django.utils import timezone

from accounts.models import User
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from healthcare.tests.planner import rewrite_and_analyze
from mappings.models import Mapping
from mappings.tests.factories import make_mapping, make_past_mapping
from patients.models import Patient
from patients.tests.factories import make_patient

LISTS = [
    "/api/mappings/",
    "/api/mappings/{patient}/",
    "/api/patients/{patient}/doctors/",
    "/api/doctors/{doctor}/patients/",
]


@pytest.fixture
def patient(alice: User) -> Patient:
    return make_patient(alice)


def ids(client: LoggedInClient, url: str) -> list[int]:
    """The assignments of a list."""
    return [row.get("mapping", row["id"]) for row in client.get(url).json()]


@pytest.mark.parametrize("path", LISTS)
def test_active_false_lists_past_assignments(as_alice: LoggedInClient, patient: Patient, path: str) -> None:
    doctor = make_doctor(patient.created_by)
    past = [make_past_mapping(patient, doctor).pk for _ in range(3)]
    now = make_mapping(patient, doctor).pk
    path = path.format(patient=patient.pk, doctor=doctor.pk)
    assert ids(as_alice, path) == ids(as_alice, f"{path}?active=true") == [now]
    assert ids(as_alice, f"{path}?active=false") == past[::-1]
    page = as_alice.get(f"{path}?active=false&limit=2&count=true")
    assert (len(page.json()), page["X-Total-Count"]) == (2, "3")
    assert ids(as_alice, page["Link"].split(">")[0][1:]) == past[:1]


@pytest.mark.parametrize("path", LISTS)
def test_past_assignments_of_a_deleted_patient_are_hidden(
    as_alice: LoggedInClient, patient: Patient, path: str
) -> None:
    doctor = make_doctor(patient.created_by)
    make_past_mapping(patient, doctor)
    as_alice.delete(f"/api/patients/{patient.pk}/")
    answer = as_alice.get(path.format(patient=patient.pk, doctor=doctor.pk) + "?active=false")
    assert (answer.status_code == 404) if "{patient}" in path else (answer.json() == [])


@pytest.mark.parametrize("path", LISTS)
def test_bob_sees_none_of_alices_past_assignments(as_bob: LoggedInClient, patient: Patient, path: str) -> None:
    doctor = make_doctor(patient.created_by)
    make_past_mapping(patient, doctor)
    answer = as_bob.get(path.format(patient=patient.pk, doctor=doctor.pk) + "?active=false")
    assert (answer.status_code == 404) if "{patient}" in path else (answer.json() == [])


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("query", ["active=no", "active=", "active=2", "active=false&as_of=2026-01-01T00:00:00Z"])
def test_active_takes_true_or_false_and_false_not_with_as_of(
    as_alice: LoggedInClient, patient: Patient, path: str, query: str
) -> None:
    doctor = make_doctor(patient.created_by)
    answer = as_alice.get(path.format(patient=patient.pk, doctor=doctor.pk) + f"?{query}")
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/active"]


def test_active_true_can_be_combined_with_as_of(as_alice: LoggedInClient, patient: Patient) -> None:
    mapping, then = make_mapping(patient, make_doctor(patient.created_by)).pk, timezone.now().isoformat()
    as_alice.delete(f"/api/mappings/{mapping}/")
    for query in ("", "&active=true"):
        assert ids(as_alice, f"/api/mappings/?as_of={then.replace('+', '%2B')}{query}") == [mapping]


def test_as_of_the_end_of_an_assignment_is_the_ended_assignment(
    as_alice: LoggedInClient, as_bob: LoggedInClient, patient: Patient
) -> None:
    mapping = make_mapping(patient, make_doctor(patient.created_by))
    path = f"/api/assignments/{mapping.pk}/"
    active = as_alice.get(path).json()
    as_alice.delete(f"/api/mappings/{mapping.pk}/")
    ended = as_alice.get(path).json()
    for state in (active, ended):
        assert as_alice.get(path, {"as_of": state["updated_at"]}).json() == state
    assert as_alice.get("/api/mappings/", {"as_of": ended["updated_at"]}).json() == []
    assert as_bob.get(path, {"as_of": ended["updated_at"]}).status_code == 404


def test_a_past_assignment_has_a_history(as_alice: LoggedInClient, as_bob: LoggedInClient, patient: Patient):
    mapping = make_mapping(patient, make_doctor(patient.created_by))
    as_alice.delete(f"/api/mappings/{mapping.pk}/")
    history = f"/api/mappings/{mapping.pk}/history/"
    assert [row["action"] for row in as_alice.get(history).json()] == ["delete", "create"]
    assert as_bob.get(history).status_code == 404


def test_every_list_is_read_from_an_index(alice: User, bob: User) -> None:
    doctors = Doctor.objects.bulk_create(Doctor(created_by=bob, name="D") for _ in range(100))
    for owner in (alice, bob):
        patients = Patient.objects.bulk_create(Patient(created_by=owner, name="P") for _ in range(40))
        pairs = [(patient, doctor) for patient in patients for doctor in doctors]
        Mapping.objects.bulk_create(Mapping(created_by=owner, patient=p, doctor=d) for p, d in pairs)
    Mapping.objects.filter(pk__in=Mapping.objects.order_by("?").values("pk")[:4_000]).end()
    rewrite_and_analyze("mappings_mapping", "patients_patient", "doctors_doctor")
    hers = Mapping.objects.owned_by(alice).of_active_patients()
    patient, doctor = Patient.objects.owned_by(alice)[25], doctors[50]
    for rows, index in [(hers.active(), "mapping_list"), (hers.hidden(), "mapping_list_ended")]:
        plan = rows.order_by("-pk")[:101].explain()
        assert f"Index Scan using {index} on mappings_mapping" in plan, plan
        assert "Sort" not in plan, plan
    # Of one patient, or one doctor, there are few: they may be sorted.
    for rows, indexes in [
        (hers.active().filter(patient=patient), "mapping_of_patient|mapping_once"),
        (hers.hidden().filter(patient=patient), "mapping_of_patient"),
        (hers.active().filter(doctor=doctor), "mapping_of_doctor"),
        (hers.hidden().filter(doctor=doctor), "mapping_of_doctor"),
    ]:
        plan = rows.order_by("-pk")[:101].explain()
        assert re.search(f"Index Scan (using|on) ({indexes})", plan), plan
        assert "Seq Scan on mappings_mapping" not in plan, plan
