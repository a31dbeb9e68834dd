"""Unmerging restores both records, except for what was changed since."""

from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.models import Patient
from patients.tests.factories import make_patient
from patients.tests.merging import MISSING, errors, merge, read, unmerge, without_stamps


def test_unmerging_moves_assignments_back_and_empties_filled_fields(
    as_alice: LoggedInClient, survivor: Patient, duplicate: Patient, alice: User
) -> None:
    doctor = make_doctor(alice)
    make_mapping(survivor, doctor, is_primary=True)
    ended, secondary = make_mapping(duplicate, doctor), make_mapping(duplicate, make_doctor(alice), is_primary=True)
    before = [read(as_alice, patient) for patient in (survivor, duplicate)]
    assignments = as_alice.get("/api/mappings/").json()
    merge(as_alice, survivor, duplicate)
    assert unmerge(as_alice, survivor, duplicate).status_code == 200
    after = [read(as_alice, patient) for patient in (survivor, duplicate)]
    assert [without_stamps(body) for body in after] == [without_stamps(body) for body in before]
    assert [body["version"] for body in after] == [3, 3]
    now = as_alice.get("/api/mappings/").json()
    assert [without_stamps(row) for row in now] == [without_stamps(row) for row in assignments]
    assert {row["id"]: row["version"] for row in now} == {now[2]["id"]: 1, ended.pk: 3, secondary.pk: 3}
    assert errors(unmerge(as_alice, survivor, duplicate)) == [MISSING]


def test_unmerging_keeps_what_was_changed_or_added_since(
    as_alice: LoggedInClient, survivor: Patient, duplicate: Patient, alice: User
) -> None:
    moved, other = make_mapping(duplicate, make_doctor(alice)), make_mapping(duplicate, make_doctor(alice))
    merge(as_alice, survivor, duplicate)
    as_alice.patch(f"/api/patients/{survivor.pk}/", {"address": "Mysuru", "birth_date": "1990-08-02"})
    as_alice.patch(f"/api/mappings/{moved.pk}/", {"role": "surgeon"})
    as_alice.delete(f"/api/mappings/{other.pk}/")
    added = as_alice.post("/api/mappings/", {"patient": survivor.pk, "doctor": make_doctor(alice).pk}).json()
    body = unmerge(as_alice, survivor, duplicate).json()
    assert (body["address"], body["birth_date"], body["birth_year"]) == ("Mysuru", "1990-08-02", 1990)
    assert body["gender"] == "U"
    assert read(as_alice, duplicate)["address"] == "Bengaluru"
    rows = {row["id"]: (row["patient"], row["role"]) for row in as_alice.get("/api/mappings/").json()}
    assert rows == {added["id"]: (survivor.pk, ""), moved.pk: (duplicate.pk, "surgeon")}
    assert [row["id"] for row in as_alice.get("/api/mappings/?active=false").json()] == [other.pk]


def test_unmerging_keeps_a_primary_doctor_chosen_since(
    as_alice: LoggedInClient, survivor: Patient, duplicate: Patient, alice: User
) -> None:
    doctor = make_doctor(alice)
    make_mapping(survivor, doctor, is_primary=True)
    was, ended = make_mapping(duplicate, make_doctor(alice), is_primary=True), make_mapping(duplicate, doctor)
    became = make_mapping(duplicate, make_doctor(alice))
    merge(as_alice, survivor, duplicate)
    as_alice.delete(f"/api/mappings/{Mapping.objects.get(patient=survivor, doctor=doctor, ended_at=None).pk}/")
    for mapping in (became, ended):
        assert as_alice.patch(f"/api/mappings/{mapping.pk}/", {"is_primary": True}).status_code == 200
    assert unmerge(as_alice, survivor, duplicate).status_code == 200
    rows = {row["id"]: (row["patient"], row["is_primary"]) for row in as_alice.get("/api/mappings/").json()}
    assert rows == {
        was.pk: (duplicate.pk, False), ended.pk: (duplicate.pk, False), became.pk: (duplicate.pk, True),
    }  # fmt: skip


def test_unmerging_ends_assignments_of_doctors_deleted_since(
    as_alice: LoggedInClient, survivor: Patient, duplicate: Patient, alice: User
) -> None:
    doctor = make_doctor(alice)
    own, other = make_mapping(survivor, doctor), make_mapping(duplicate, doctor)
    merge(as_alice, survivor, duplicate)
    as_alice.delete(f"/api/mappings/{own.pk}/")
    assert as_alice.delete(f"/api/doctors/{doctor.pk}/").status_code == 204
    assert unmerge(as_alice, survivor, duplicate).status_code == 200
    assert as_alice.get("/api/mappings/").json() == []
    other.refresh_from_db()
    doctor.refresh_from_db()
    assert (other.patient_id, other.ended_at) == (duplicate.pk, doctor.deleted_at)


def test_merges_are_undone_in_any_order(as_alice: LoggedInClient, alice: User) -> None:
    doctor, survivor = make_doctor(alice), make_patient(alice)
    first, second = make_patient(alice, phone="1"), make_patient(alice, phone="2", address="Mysuru")
    mappings = [make_mapping(patient, doctor) for patient in (first, second)]
    before = [read(as_alice, patient) for patient in (survivor, first, second)]
    for patient in (first, second):
        merge(as_alice, survivor, patient)
    assert [row["id"] for row in as_alice.get("/api/mappings/").json()] == [mappings[0].pk]
    for patient in (first, second):
        assert unmerge(as_alice, survivor, patient).status_code == 200
    after = [read(as_alice, patient) for patient in (survivor, first, second)]
    assert [without_stamps(body) for body in after] == [without_stamps(body) for body in before]
    rows = as_alice.get("/api/mappings/").json()
    assert [(row["id"], row["patient"]) for row in rows] == [(mappings[1].pk, second.pk), (mappings[0].pk, first.pk)]
