"""Two records of one person: merged into one, and taken apart again (FHIR R4 Patient.link, replaced-by).

Every table that refers to patients follows, from whatever room, by the verbs of `PatientRows`: this room knows no more
of the others than that they refer to it.
"""

import datetime
from collections.abc import Iterator
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from patients.erasure import references
from patients.models import Gender, Patient, PatientMerge
from patients.rows import PatientRows

# What a merge fills. A name is never empty and `deceased` says something either way: both stay the survivor's.
EMPTY: dict[str, Any] = {
    "gender": Gender.UNKNOWN.value, "birth_date": None, "birth_year": None, "identifier": "", "phone": "", "email": "",
    "address": "",
}  # fmt: skip
SURVIVOR = """
WITH RECURSIVE chain AS (
    SELECT id, merged_into_id FROM patients_patient WHERE id = %s AND created_by_id = %s AND merged_into_id IS NOT NULL
    UNION ALL
    SELECT follower.id, follower.merged_into_id
    FROM patients_patient follower JOIN chain ON follower.id = chain.merged_into_id
)
SELECT id FROM chain WHERE merged_into_id IS NULL
"""


def merge(survivor: Patient, duplicate: Patient) -> Patient:
    """The survivor as it is with what the duplicate adds. Both are locked, active and different."""
    filled = gaps(survivor, duplicate)
    moved = {label: rows.join(field, duplicate, survivor) for label, field, rows in following()}
    write(survivor, filled)
    write(duplicate, {"merged_into": survivor, "deleted_at": timezone.now()})
    now = Patient.objects.get(pk=survivor.pk)
    PatientMerge.objects.create(
        created_by_id=survivor.created_by_id,
        survivor=survivor,
        duplicate=duplicate,
        filled={field: as_json(value) for field, value in filled.items()},
        moved=moved,
        first_version=now.version if filled else None,
    )
    return now


def unmerge(survivor: Patient, duplicate: Patient) -> Patient:
    """The survivor as it is without what it had from the duplicate; what was changed since stays as it was changed.

    Both are locked, and the duplicate is merged into the survivor.
    """
    merge = PatientMerge.objects.active().get(survivor=survivor, duplicate=duplicate)
    for label, field, rows in following():
        rows.part(field, duplicate, survivor, merge.moved.get(label, {}))
    write(survivor, unchanged(survivor, merge.filled))
    write(duplicate, {"merged_into": None, "deleted_at": None})
    now = Patient.objects.get(pk=survivor.pk)
    write(merge, {"unmerged_at": timezone.now(), "filled": {}, "moved": {}, "last_version": now.version})
    return now


def following() -> Iterator[tuple[str, str, PatientRows]]:
    """Every table of another room that refers to patients: its label, the foreign key and its rows."""
    for reference in references(Patient)[0]:
        model, field = reference.related_model, reference.field.name
        if model not in {Patient, PatientMerge}:
            rows = model._default_manager.all()
            yield f"{model._meta.label}.{field}", field, rows if isinstance(rows, PatientRows) else PatientRows(model)


def gaps(survivor: Patient, duplicate: Patient) -> dict[str, Any]:
    """What the duplicate says and the survivor does not."""
    known = {field: getattr(duplicate, field) for field, empty in EMPTY.items() if getattr(duplicate, field) != empty}
    filled = {field: value for field, value in known.items() if getattr(survivor, field) == EMPTY[field]}
    if survivor.birth_year not in {None, duplicate.birth_year}:
        filled.pop("birth_date", None)  # the survivor was born in another year
    return filled


def unchanged(survivor: Patient, filled: dict[str, Any]) -> dict[str, Any]:
    """The fields that still hold what they were filled with, each empty."""
    emptied = {field: EMPTY[field] for field, value in filled.items() if as_json(getattr(survivor, field)) == value}
    if emptied.get("birth_date", survivor.birth_date):
        emptied.pop("birth_year", None)  # a date that was given since has its year
    return emptied


def as_json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime.date) else value


def write(record: Patient | PatientMerge, changes: dict[str, Any]) -> None:
    if changes:
        record.row().update(**changes)


def successor(user: AbstractBaseUser | AnonymousUser, patient_id: int) -> str | None:
    """The path of the last survivor, when this patient of the user's was merged."""
    with connection.cursor() as cursor:
        cursor.execute(SURVIVOR, [patient_id, user.pk])
        row = cursor.fetchone()
    return reverse("patient-detail", args=[row[0]]) if row else None
