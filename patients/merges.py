"""Merging two records of one person, and undoing it (FHIR R4 Patient.link, replaced-by).

The rows of every model that refers to patients move to the survivor by the methods of `PatientRelatedQuerySet`. This
app knows of those models only by their foreign keys.
"""

import datetime
import json
from collections.abc import Collection, Iterator
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection
from django.db.models import Field, Model
from django.urls import reverse
from django.utils import timezone

from healthcare.ownership import RecordOwner
from patients.birth import dies_before_birth
from patients.erasure import references
from patients.identifiers import Pair, pairs_to_add
from patients.models import Patient, PatientMerge
from patients.related_rows import PatientRelatedQuerySet

# A merge fills every field of a patient that the survivor leaves empty, but for these: keys and bookkeeping, the name,
# which is never empty, the identifiers, of which it adds those of the duplicate, and `fhir`, which is about the values
# of its own row.
FIELDS_NOT_FILLED = {
    "id", "created_by", "created_at", "updated_at", "version", "name", "identifiers", "deleted_at", "merged_into",
    "fhir",
}  # fmt: skip
SURVIVOR = """
WITH RECURSIVE chain AS (
    SELECT id, merged_into_id, deleted_at FROM patients_patient
    WHERE id = %s AND created_by_id = %s AND merged_into_id IS NOT NULL
    UNION ALL
    SELECT follower.id, follower.merged_into_id, follower.deleted_at
    FROM patients_patient follower JOIN chain ON follower.id = chain.merged_into_id
)
SELECT id, deleted_at IS NULL FROM chain WHERE merged_into_id IS NULL
"""


def empty_values(model: type[Model] = Patient) -> dict[str, Any]:
    """The fields that a merge fills, by attribute name, each with its value when nothing is known.

    Raises ImproperlyConfigured for a field that has no such value and is not in FIELDS_NOT_FILLED.
    """
    fields = [field for field in model._meta.concrete_fields if field.name not in FIELDS_NOT_FILLED]
    return {field.attname: empty_value(field) for field in fields}


def empty_value(field: Field) -> Any:
    if field.null:
        return None
    if field.has_default():
        return field.get_default()
    if field.blank and field.empty_strings_allowed:
        return ""
    raise ImproperlyConfigured(
        f"A merge cannot tell whether {field.model._meta.label}.{field.name} is empty. Give it a default, let it "
        "be null or blank, or name it in patients.merges.FIELDS_NOT_FILLED."
    )


def merge(survivor: Patient, duplicate: Patient, chosen: Collection[str] | None = None) -> Patient:
    """Merge the duplicate into the survivor and return the survivor as it is now.

    Both are locked, active and different. `chosen` names the fields whose values the survivor takes from the duplicate,
    of those in `choosable_fields`; by default, those that the survivor leaves empty and that do not contradict it.
    """
    if chosen is None:
        filled = fields_to_fill(survivor, duplicate)
    else:
        filled = {field: getattr(duplicate, field) for field in choosable_fields() if field in chosen}
    replaced = {field: getattr(survivor, field) for field in filled if not is_empty(survivor, field)}
    added = pairs_to_add(survivor, duplicate, filled.get("identifier", survivor.identifier))
    moved = {label: rows.move_to_survivor(field, duplicate, survivor) for label, field, rows in related_rows()}
    update_row(survivor, filled | ({"identifiers": [*survivor.identifiers, *added]} if added else {}))
    update_row(duplicate, {"merged_into": survivor, "deleted_at": timezone.now()})
    merged = Patient.objects.get(pk=survivor.pk)
    PatientMerge.objects.create(
        created_by_id=survivor.created_by_id,
        survivor=survivor,
        duplicate=duplicate,
        filled={field: as_stored_json(value) for field, value in filled.items()}
        | ({"identifiers": added} if added else {}),
        replaced={field: as_exact_json(value) for field, value in replaced.items()},
        moved=moved,
        first_version=merged.version if filled or added else None,
    )
    return merged


def unmerge(survivor: Patient, duplicate: Patient) -> Patient:
    """Undo a merge and return the survivor as it is now. What was changed since the merge stays as it was changed.

    Both are locked, and the duplicate is merged into the survivor.
    """
    merge = PatientMerge.objects.active().get(survivor=survivor, duplicate=duplicate)
    for label, field, rows in related_rows():
        rows.move_back(field, duplicate, survivor, merge.moved.get(label, {}))
    removed = pairs_to_remove(survivor, merge)
    changes = {"identifiers": [pair for pair in survivor.identifiers if pair not in removed]} if removed else {}
    update_row(survivor, fields_to_restore(survivor, merge) | changes)
    pass_on_replaced(merge)
    update_row(duplicate, {"merged_into": None, "deleted_at": None})
    unmerged = Patient.objects.get(pk=survivor.pk)
    undone = {"filled": {}, "replaced": {}, "moved": {}, "last_version": unmerged.version}
    update_row(merge, {"unmerged_at": timezone.now(), **undone})
    return unmerged


def related_rows() -> Iterator[tuple[str, str, PatientRelatedQuerySet]]:
    """The rows of every foreign key to patients outside this module: the key's label, its name, and the queryset."""
    for reference in references(Patient)[0]:
        model, field = reference.related_model, reference.field.name
        if model not in {Patient, PatientMerge}:
            rows = model._default_manager.all()
            movable = rows if isinstance(rows, PatientRelatedQuerySet) else PatientRelatedQuerySet(model)
            yield f"{model._meta.label}.{field}", field, movable


def choosable_fields() -> list[str]:
    """The fields of which the survivor may take the duplicate's value. Identifiers are added instead."""
    return ["name", *empty_values()]


def is_empty(patient: Patient, field: str) -> bool:
    return bool(field in empty_values() and getattr(patient, field) == empty_values()[field])


def describe_moves(survivor: Patient, duplicate: Patient) -> list[str]:
    """Sentences for staff about where the rows that refer to the duplicate go."""
    return [text for _, field, rows in related_rows() for text in rows.describe_move(field, duplicate, survivor)]


def fields_to_fill(survivor: Patient, duplicate: Patient) -> dict[str, Any]:
    """The duplicate's values of the fields that the survivor leaves empty."""
    filled = {
        field: getattr(duplicate, field)
        for field, empty in empty_values().items()
        if getattr(survivor, field) == empty != getattr(duplicate, field)
    }
    if survivor.birth_year not in {None, duplicate.birth_year}:
        filled.pop("birth_date", None)  # the survivor was born in another year
    if survivor.deceased is False:
        filled.pop("deceased_on", None)
    return without_contradictions(survivor, filled)


def without_contradictions(survivor: Patient, filled: dict[str, Any]) -> dict[str, Any]:
    """What fills the survivor, without a death before the survivor's birth and a birth after the survivor's death."""
    for contradictory in ("deceased_on", "birth_date", "birth_year"):
        life = [filled.get(name, getattr(survivor, name)) for name in ("deceased_on", "birth_date", "birth_year")]
        if contradictory in filled and life[0] and dies_before_birth(*life):
            filled = {name: value for name, value in filled.items() if name != contradictory}
    return filled


def fields_to_restore(survivor: Patient, undone: PatientMerge) -> dict[str, Any]:
    """The value before the merge of each field that still holds the value that the merge gave it."""
    later = later_merges(undone)
    restored: dict[str, Any] = {}
    for field in choosable_fields():
        if field not in undone.filled or any(field in merge.filled for merge in later):
            continue
        if as_stored_json(getattr(survivor, field)) == undone.filled[field]:
            restored[field] = value_before(undone, field)
    return without_contradictions_to_changes(survivor, restored)


def merge_behind_version(patient_id: int, version: int) -> PatientMerge | None:
    """A merge whose duplicate's data this version of the survivor may hold, and which would not take it back.

    That of an undone merge would be the survivor's again, in a version that an erasure of the duplicate does not cover.
    Undoing a merge takes back what the survivor got, unless a later merge has given the field a value since.
    """
    merges = PatientMerge.objects.filter(survivor=patient_id, first_version__isnull=False).order_by("pk")
    latest = 0  # the first version of the last merge that is not undone
    for merge in reversed(merges):
        first = merge.first_version or 0
        if merge.unmerged_at is None:
            latest = max(latest, first)
        if first <= version < (latest if merge.unmerged_at is None else merge.last_version or 0):
            return merge
    return None


def later_merges(merge: PatientMerge) -> list[PatientMerge]:
    """The later merges into the same survivor that are not undone, the earliest first."""
    return list(PatientMerge.objects.active().filter(survivor=merge.survivor_id, pk__gt=merge.pk).order_by("pk"))


def pass_on_replaced(undone: PatientMerge) -> None:
    """What a later merge replaced is now what the undone one replaced, so that undoing the later one does not bring
    back this duplicate's value. A field that was changed between the two merges stays as it was changed."""
    passed_on = {field for field in undone.filled if field in choosable_fields()}
    for merge in later_merges(undone):
        fields = passed_on & merge.filled.keys()
        passed_on -= fields
        same = {field for field in fields if as_stored_json(value_before(merge, field)) == undone.filled[field]}
        replaced = {field: value for field, value in merge.replaced.items() if field not in same}
        replaced |= {field: value for field, value in undone.replaced.items() if field in same}
        if replaced != merge.replaced:
            update_row(merge, {"replaced": replaced})


def value_before(merge: PatientMerge, field: str) -> Any:
    """The survivor's value before a merge that took the duplicate's."""
    if field not in merge.replaced:
        return empty_values()[field]
    column = next(column for column in Patient._meta.concrete_fields if column.attname == field)
    return column.to_python(merge.replaced[field])


def without_contradictions_to_changes(survivor: Patient, restored: dict[str, Any]) -> dict[str, Any]:
    """The restored values, but that one which contradicts what was changed since the merge is emptied instead: the
    duplicate's must not stay. A date of birth needs its year, and a date of death the fact."""

    def after(name: str) -> Any:
        return restored.get(name, getattr(survivor, name))

    if after("birth_date") and after("birth_year") != after("birth_date").year:
        restored = restored | {"birth_year": after("birth_date").year}
    if after("deceased_on") and not after("deceased"):
        restored = restored | ({"deceased_on": None} if "deceased_on" in restored else {"deceased": True})
    if after("deceased_on") and dies_before_birth(*map(after, ("deceased_on", "birth_date", "birth_year"))):
        emptied = ("deceased_on",) if "deceased_on" in restored else ("birth_date", "birth_year")
        restored = restored | dict.fromkeys(emptied)
    return restored


def pairs_to_remove(survivor: Patient, undone: PatientMerge) -> list[Pair]:
    """The identifiers that a merge added and that nobody has removed since.

    One that another merged duplicate has as well stays, and counts as added by that merge from now on.
    """
    added = [pair for pair in undone.filled.get("identifiers", []) if pair in survivor.identifiers]
    others = PatientMerge.objects.active().filter(survivor=survivor).exclude(pk=undone.pk).select_related("duplicate")
    for other in others.order_by("pk") if added else []:
        rest = [pair for pair in survivor.identifiers if pair not in added]
        before = value_before(other, "identifier") if "identifier" in other.filled else survivor.identifier
        without = Patient(identifier=before, identifiers=rest)
        needed = pairs_to_add(without, other.duplicate, survivor.identifier)
        shared = [pair for pair in needed if pair in added]
        if shared:
            filled = other.filled | {"identifiers": [*other.filled.get("identifiers", []), *shared]}
            update_row(other, {"filled": filled, "first_version": other.first_version or survivor.version})
            added = [pair for pair in added if pair not in shared]
    return added


def as_stored_json(value: Any) -> Any:
    """A field's value as a JSONField gives it back."""
    return json.loads(json.dumps(value, cls=DjangoJSONEncoder))


def as_exact_json(value: Any) -> Any:
    """A field's value as JSON of which the field makes the same value again: with all digits of a time."""
    return value.isoformat() if isinstance(value, datetime.time | datetime.datetime) else as_stored_json(value)


def update_row(record: Patient | PatientMerge, changes: dict[str, Any]) -> None:
    if changes:
        record.row().update(**changes)


def survivor_path(owner: RecordOwner, patient_id: int) -> str | None:
    """The path of the record that this patient of the owner's was merged into, at the end of a chain of merges.

    Empty if that record has been deleted. None for a patient that was not merged, and for another owner's.
    """
    with connection.cursor() as cursor:
        cursor.execute(SURVIVOR, [patient_id, owner.pk])
        row = cursor.fetchone()
    if row is None:
        return None
    key, is_active = row
    return reverse("patient-detail", args=[key]) if is_active else ""
