"""Rows of a room that knows nothing of merges move all the same."""

from accounts.models import User
from doctors.tests.factories import make_doctor
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.rows import PatientRows
from patients.tests.factories import make_patient


def test_they_follow_and_come_back_but_for_those_that_are_new(alice: User) -> None:
    survivor, duplicate = make_patient(alice), make_patient(alice)
    own, moving = make_mapping(survivor, make_doctor(alice)), make_mapping(duplicate, make_doctor(alice))
    rows: PatientRows = PatientRows(Mapping)
    moved = rows.join("patient", duplicate, survivor)
    assert moved == {str(moving.pk): {}}
    assert set(Mapping.objects.values_list("pk", "patient", "version")) == {
        (own.pk, survivor.pk, 1),
        (moving.pk, survivor.pk, 2),
    }
    new = make_mapping(survivor, make_doctor(alice))
    rows.part("patient", duplicate, survivor, moved)
    assert set(Mapping.objects.values_list("pk", "patient", "version")) == {
        (own.pk, survivor.pk, 1),
        (moving.pk, duplicate.pk, 3),
        (new.pk, survivor.pk, 1),
    }
