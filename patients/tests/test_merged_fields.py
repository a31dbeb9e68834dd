"""A merge derives the fields it fills from the model, so that a field that is added later is not lost."""

import datetime
import decimal
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, models

from accounts.models import User
from patients import merges
from patients.checks import merges_know_every_field
from patients.models import Patient
from patients.tests.factories import make_patient

AddField = Callable[[models.Field], None]


@pytest.fixture
def add_field(db: None) -> Iterator[AddField]:
    """Adds a field to the model and to its table, both for this test alone."""
    added: list[models.Field] = []

    def add(field: models.Field) -> None:
        field.contribute_to_class(Patient, "added")
        added.append(field)
        with connection.schema_editor() as editor:
            editor.add_field(Patient, field)

    yield add
    for field in added:
        Patient._meta.local_fields.remove(field)
        Patient._meta._expire_cache()  # type: ignore[attr-defined]
        delattr(Patient, "added")


FIELDS: list[tuple[models.Field, Any, Any]] = [
    (models.CharField(max_length=3, blank=True), "", "AB+"),
    (models.CharField(max_length=3, default="?"), "?", "AB+"),
    (models.TextField(blank=True), "", "Penicillin"),
    (models.DecimalField(max_digits=5, decimal_places=2, null=True), None, decimal.Decimal("71.50")),
    (models.DateField(null=True), None, datetime.date(2026, 3, 14)),
    (models.TimeField(null=True), None, datetime.time(9, 30)),
    (models.DateTimeField(null=True), None, datetime.datetime(2026, 3, 14, 9, 30, 0, 123456, datetime.UTC)),
    (models.UUIDField(null=True), None, uuid.UUID(int=7)),
    (models.JSONField(default=list), [], [{"to": "penicillin"}]),
    (models.BooleanField(null=True), None, False),
    (models.ForeignKey(User, models.PROTECT, null=True, related_name="+"), None, "alice"),
]


@pytest.mark.parametrize(("field", "empty", "value"), FIELDS, ids=lambda value: type(value).__name__)
def test_a_field_that_was_added_to_the_model_is_filled_and_emptied_again(
    alice: User, add_field: AddField, field: models.Field, empty: Any, value: Any
):
    value = alice if value == "alice" else value
    add_field(field.clone())
    survivor, duplicate = make_patient(alice), make_patient(alice, added=value)
    assert merges_know_every_field() == []
    merged: Any = merges.merge(survivor, duplicate)
    assert merged.added == value
    unmerged: Any = merges.unmerge(merged, Patient.objects.get(pk=duplicate.pk))
    assert unmerged.added == empty


def test_a_merge_keeps_the_survivors_own_value(alice: User, add_field: AddField):
    add_field(models.CharField(max_length=3, blank=True))
    survivor, duplicate = make_patient(alice, added="O-"), make_patient(alice, added="AB+")
    merged: Any = merges.merge(survivor, duplicate)
    assert merged.added == "O-"


def test_a_field_that_is_never_empty_has_to_be_declared(add_field: AddField):
    field = models.CharField(max_length=3)
    field.contribute_to_class(Patient, "added")
    try:
        assert [error.id for error in merges_know_every_field()] == ["patients.E001"]
    finally:
        Patient._meta.local_fields.remove(field)
        Patient._meta._expire_cache()  # type: ignore[attr-defined]


def test_an_exclusion_of_a_field_that_is_not_there_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("patients.checks.FIELDS_NOT_FILLED", merges.FIELDS_NOT_FILLED | {"nickname"})
    assert [error.id for error in merges_know_every_field()] == ["patients.E002"]


def test_every_field_is_filled_or_excluded():
    assert set(merges.empty_values()) == {
        "gender", "birth_date", "birth_year", "deceased", "deceased_on", "identifier", "phone", "alternate_phone",
        "email", "address", "language", "contacts", "medical_history",
    }  # fmt: skip
