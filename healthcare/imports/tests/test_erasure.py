"""What an erasure removes from imports."""

import io
from typing import Any

import pytest
from django.core.management import call_command
from django.db import transaction

from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.imports.models import Import, StagedFile, StagedRow
from healthcare.imports.tests.factories import make_import
from healthcare.tests.waiting import Waiting
from mappings.tests.factories import make_mapping
from patients.models import ErasureReceipt, Patient, PatientMerge
from patients.tests.factories import make_patient

pytestmark = pytest.mark.django_db


def erase(command: str, key: int) -> None:
    call_command(command, str(key), "--reason", "Request 17", "--yes", stdout=io.StringIO())


def lines_of(parent: Import) -> list[tuple[Any, ...]]:
    return list(parent.lines.values_list("line", "record_id", "old_id", "likely"))


def test_erasing_a_patient_removes_the_lines_about_the_patient_and_the_assignments(alice: User) -> None:
    erased, kept = make_patient(alice), make_patient(alice)
    mapping, doctor = make_mapping(erased, make_doctor(alice)), make_doctor(alice)
    patients = make_import(alice, "patients", {"record_id": erased.pk, "old_id": 7}, {"record_id": kept.pk})
    mappings = make_import(alice, "mappings", {"record_id": mapping.pk}, {"record_id": make_mapping(kept, doctor).pk})
    doctors = make_import(alice, "doctors", {"record_id": erased.pk})
    erase("erase_patient", erased.pk)
    assert lines_of(patients) == [(3, kept.pk, None, [])]
    assert [line for line, *_ in lines_of(mappings)] == [3]
    assert lines_of(doctors) == [(2, erased.pk, None, [])]
    assert ErasureReceipt.objects.get().counts["imports_importedline"] == 2


def test_a_held_line_forgets_the_erased_patient_and_where_it_came_from(alice: User) -> None:
    erased, kept = make_patient(alice), make_patient(alice)
    likely = [{"id": kept.pk}, {"id": erased.pk}, {"line": 2}]
    held = {"status": "likely", "server": "s", "old_id": 7}
    parent = make_import(alice, "patients", held | {"likely": likely}, held | {"likely": likely[:1]})
    doctors = make_import(alice, "doctors", held | {"likely": likely})
    erase("erase_patient", erased.pk)
    assert lines_of(parent) == [(2, None, None, [{"id": kept.pk}, {"line": 2}]), (3, None, 7, likely[:1])]
    assert lines_of(doctors) == [(2, None, 7, likely)]


def test_erasing_a_patient_removes_the_lines_of_a_former_owner_and_of_merged_records(alice: User, bob: User) -> None:
    survivor, duplicate = make_patient(bob), make_patient(bob)
    parent = make_import(alice, "patients", {"record_id": survivor.pk}, {"record_id": duplicate.pk})
    PatientMerge.objects.create(created_by=bob, survivor=survivor, duplicate=duplicate, filled={}, moved={})
    Patient.objects.filter(pk=duplicate.pk).update(merged_into=survivor, deleted_at=duplicate.created_at)
    erase("erase_patient", survivor.pk)
    assert lines_of(parent) == []


def test_erasing_a_doctor_removes_the_lines_about_the_doctor(alice: User) -> None:
    doctor, kept = make_doctor(alice), make_doctor(alice)
    parent = make_import(alice, "doctors", {"record_id": doctor.pk}, {"record_id": kept.pk})
    erase("erase_doctor", doctor.pk)
    assert lines_of(parent) == [(3, kept.pk, None, [])]


def test_erasing_removes_what_unfinished_imports_of_the_owner_have_read(alice: User, bob: User) -> None:
    for command, make in (("erase_patient", make_patient), ("erase_doctor", make_doctor)):
        for owner in (alice, bob):
            file = StagedFile.objects.create(created_by=owner, digest=f"{command} {owner.pk}", rows=1)
            StagedRow.objects.create(file=file, line=2, content="[{}, []]")
        erase(command, make(alice).pk)
        assert list(StagedRow.objects.values_list("file__created_by", flat=True)) == [bob.pk]
        assert ErasureReceipt.objects.latest("pk").counts["imports_stagedrow"] == 1
        StagedFile.objects.all().delete()


@pytest.mark.django_db(transaction=True)
def test_an_import_waits_for_the_erasure_of_a_patient_whom_it_updates_and_brings_nothing_back(
    as_alice: LoggedInClient, alice: User
) -> None:
    erased = make_patient(alice, name="Ana Rao", identifier="N-1")
    file = "name,identifier,address\nAna Rao,N-1,Mysuru\nBen Rao,N-2,Pune\n"
    url = "/api/patients/import/?mode=apply&on_match=update"
    with transaction.atomic():
        erase("erase_patient", erased.pk)
        importing = Waiting(lambda: as_alice.generic("POST", url, file, content_type="text/csv"))
    answer = importing.finish()
    assert (answer.status_code, answer.json()["summary"]["failed"]) == (422, 1)
    assert answer.json()["results"][0]["errors"][0]["code"] == "conflict"
    assert (Patient.objects.count(), Import.objects.count(), StagedRow.objects.count()) == (0, 0, 0)
