"""/api/mappings/: alice assigns doctors to her patients, bob is an outsider."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.models import Patient
from patients.tests.factories import make_patient


@pytest.fixture
def patient(alice: User) -> Patient:
    return make_patient(alice)


@pytest.fixture
def doctor(bob: User) -> Doctor:
    return make_doctor(bob)


def test_alice_assigns_a_doctor_to_her_patient(
    as_alice: LoggedInClient, alice: User, patient: Patient, doctor: Doctor
) -> None:
    answer = as_alice.post("/api/mappings/", {"patient": patient.pk, "doctor": doctor.pk})
    assert answer.status_code == 201
    body = answer.json()
    assert body == {
        **{name: body[name] for name in ("id", "started_at", "created_at", "updated_at")},
        "patient": patient.pk,
        "doctor": doctor.pk,
        "role": "",
        "is_primary": False,
        "reason": "",
        "notes": "",
        "ended_at": None,
        "version": 1,
        "created_by": alice.pk,
    }
    assert as_alice.get("/api/mappings/").json() == [body]


def test_each_doctor_of_a_patient_carries_the_mapping_id(
    as_alice: LoggedInClient, patient: Patient, doctor: Doctor
) -> None:
    mapping = as_alice.post("/api/mappings/", {"patient": patient.pk, "doctor": doctor.pk}).json()
    doctors = as_alice.get(f"/api/mappings/{patient.pk}/").json()
    assert doctors == [as_alice.get(f"/api/doctors/{doctor.pk}/").json() | {"mapping": mapping["id"]}]
    assert as_alice.get(f"/api/patients/{patient.pk}/doctors/").json() == doctors
    assert as_alice.delete(f"/api/mappings/{doctors[0]['mapping']}/").status_code == 204
    assert as_alice.get(f"/api/mappings/{patient.pk}/").json() == []


def test_an_ended_assignment_stays_on_record_and_the_doctor_can_be_assigned_again(
    as_alice: LoggedInClient, patient: Patient, doctor: Doctor
) -> None:
    pair = {"patient": patient.pk, "doctor": doctor.pk}
    first = as_alice.post("/api/mappings/", pair).json()["id"]
    as_alice.delete(f"/api/mappings/{first}/")
    assert as_alice.delete(f"/api/mappings/{first}/").status_code == 404
    assert as_alice.post("/api/mappings/", pair).status_code == 201
    ended = Mapping.objects.get(pk=first)
    assert ended.ended_at is not None
    assert ended.ended_at >= ended.started_at
    assert len(as_alice.get("/api/mappings/").json()) == 1


def test_a_second_active_assignment_of_the_same_doctor_is_refused(
    as_alice: LoggedInClient, patient: Patient, doctor: Doctor
) -> None:
    pair = {"patient": patient.pk, "doctor": doctor.pk}
    assert as_alice.post("/api/mappings/", pair).status_code == 201
    answer = as_alice.post("/api/mappings/", pair)
    assert answer.status_code == 400
    assert answer.json()["errors"] == [
        {"pointer": "/doctor", "code": "unique", "detail": "This doctor is already assigned to this patient."}
    ]
    assert Mapping.objects.count() == 1


def test_a_patient_has_one_primary_doctor_at_a_time(
    as_alice: LoggedInClient, patient: Patient, doctor: Doctor, bob: User
) -> None:
    first = {"patient": patient.pk, "doctor": doctor.pk, "is_primary": True, "role": "GP", "reason": "asthma"}
    body = as_alice.post("/api/mappings/", first).json()
    assert (body["is_primary"], body["role"], body["reason"]) == (True, "GP", "asthma")
    answer = as_alice.post("/api/mappings/", first | {"doctor": make_doctor(bob).pk})
    assert answer.status_code == 400
    assert [(error["pointer"], error["code"]) for error in answer.json()["errors"]] == [("/is_primary", "unique")]


def test_a_foreign_patient_reads_like_a_missing_one(as_bob: LoggedInClient, patient: Patient, doctor: Doctor) -> None:
    def refusal(patient_id: int) -> dict[str, Any]:
        answer = as_bob.post("/api/mappings/", {"patient": patient_id, "doctor": doctor.pk})
        assert answer.status_code == 400
        return {**answer.json(), "request_id": ""}

    assert refusal(patient.pk) == refusal(2**40)
    assert refusal(patient.pk)["errors"] == [
        {"pointer": "/patient", "code": "does_not_exist", "detail": "There is no such record."}
    ]
    assert not Mapping.objects.exists()


@pytest.mark.parametrize("bad", [None, "", "x", 0, -1, 1.5, True, [], {}, 2**70])
@pytest.mark.parametrize("field", ["patient", "doctor"])
def test_an_invalid_id_is_refused(
    as_alice: LoggedInClient, patient: Patient, doctor: Doctor, field: str, bad: object
) -> None:
    answer = as_alice.post("/api/mappings/", {"patient": patient.pk, "doctor": doctor.pk, field: bad})
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == [f"/{field}"]
    assert not Mapping.objects.exists()


def test_a_deleted_patient_or_doctor_cannot_be_assigned(
    as_alice: LoggedInClient, patient: Patient, doctor: Doctor, alice: User
) -> None:
    Doctor.objects.filter(pk=doctor.pk).end()
    answer = as_alice.post("/api/mappings/", {"patient": patient.pk, "doctor": doctor.pk})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/doctor"]
    as_alice.delete(f"/api/patients/{patient.pk}/")
    answer = as_alice.post("/api/mappings/", {"patient": patient.pk, "doctor": make_doctor(alice).pk})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/patient"]


def test_bob_can_neither_see_nor_end_alices_assignments(
    as_bob: LoggedInClient, as_alice: LoggedInClient, patient: Patient, doctor: Doctor
) -> None:
    mapping = make_mapping(patient, doctor)
    assert as_bob.get("/api/mappings/").json() == []
    assert as_bob.get(f"/api/mappings/{patient.pk}/").status_code == 404
    assert as_bob.get(f"/api/patients/{patient.pk}/doctors/").status_code == 404
    assert as_bob.delete(f"/api/mappings/{mapping.pk}/").status_code == 404
    assert len(as_alice.get("/api/mappings/").json()) == 1


def test_deleting_a_patient_hides_the_assignments_and_does_not_end_them(
    as_alice: LoggedInClient, patient: Patient, doctor: Doctor
) -> None:
    mapping = make_mapping(patient, doctor)
    as_alice.delete(f"/api/patients/{patient.pk}/")
    assert as_alice.get("/api/mappings/").json() == []
    assert as_alice.get(f"/api/mappings/{patient.pk}/").status_code == 404
    assert as_alice.delete(f"/api/mappings/{mapping.pk}/").status_code == 404
    mapping.refresh_from_db()
    assert mapping.ended_at is None


FAST_PATH = ["entering as the caller, the page and the row of the access log"]
DOCTORS = ["session and user of the token", "the patient", "the page with its doctors", "the row of the access log"]
LISTS = {"/api/mappings/": FAST_PATH, "/api/mappings/{}/": FAST_PATH, "/api/patients/{}/doctors/": FAST_PATH}
PAST = {
    "/api/mappings/?active=false": ["session and user of the token", "the page", "the row of the access log"],
    "/api/mappings/{}/?active=false": DOCTORS,
    "/api/patients/{}/doctors/?active=false": DOCTORS,
}


@pytest.mark.parametrize("rows", [10, 100])
@pytest.mark.parametrize("path", LISTS | PAST)
def test_the_query_count_of_a_list_does_not_grow_with_its_rows(
    as_alice: LoggedInClient, alice: User, patient: Patient, path: str, rows: int, settings: Any
) -> None:
    settings.FAST_PATH = "on"
    for _ in range(rows):
        make_mapping(patient, make_doctor(alice))
    if path in PAST:
        Mapping.objects.end()
    with CaptureQueriesContext(connection) as queries:
        assert len(as_alice.get(path.format(patient.pk)).json()) == rows
    statements = [query["sql"] for query in queries if not query["sql"].startswith(("SAVEPOINT", "RELEASE"))]
    assert len(statements) == len((LISTS | PAST)[path]), statements


def test_restoring_a_patient_ends_assignments_of_doctors_deleted_since(
    alice: User, patient: Patient, doctor: Doctor
) -> None:
    left, stayed = make_mapping(patient, doctor), make_mapping(patient, make_doctor(alice))
    Patient.objects.filter(pk=patient.pk).end()
    Doctor.objects.filter(pk=doctor.pk).end()
    Patient.objects.filter(pk=patient.pk).update(deleted_at=None)
    assert [mapping.pk for mapping in Mapping.objects.active()] == [stayed.pk]
    left.refresh_from_db()
    doctor.refresh_from_db()
    assert (left.ended_at, left.version) == (doctor.deleted_at, 2)
