"""Rows of a model that knows nothing of merges move to the survivor too."""

from accounts.models import User
from doctors.tests.factories import make_doctor
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.related_rows import PatientRelatedQuerySet
from patients.tests.factories import make_patient


def test_rows_move_to_the_survivor_and_back_except_rows_added_since(alice: User) -> None:
    survivor, duplicate = make_patient(alice), make_patient(alice)
    own, moving = make_mapping(survivor, make_doctor(alice)), make_mapping(duplicate, make_doctor(alice))
    rows: PatientRelatedQuerySet = PatientRelatedQuerySet(Mapping)
    moved = rows.move_to_survivor("patient", duplicate, survivor)
    assert moved == {str(moving.pk): {}}
    assert set(Mapping.objects.values_list("pk", "patient", "version")) == {
        (own.pk, survivor.pk, 1),
        (moving.pk, survivor.pk, 2),
    }
    new = make_mapping(survivor, make_doctor(alice))
    rows.move_back("patient", duplicate, survivor, moved)
    assert set(Mapping.objects.values_list("pk", "patient", "version")) == {
        (own.pk, survivor.pk, 1),
        (moving.pk, duplicate.pk, 3),
        (new.pk, survivor.pk, 1),
    }
