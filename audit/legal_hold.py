"""Legal holds: nothing about a patient under an active hold is deleted, merged, erased or archived.

A soft delete, a merge and its undoing are refused by a trigger on the patient's row (`patients.legal_hold`). What
removes rows, that is erasure and archive, calls `refuse_if_held` in the transaction of the removal. It locks the table
of holds against new ones until that transaction ends, so no hold can be set between the check and the removal.
"""

from collections.abc import Collection, Mapping
from typing import Any

from django.db import connection
from django.db.models import Model, QuerySet

from audit.models import AccessLog, LegalHold
from audit.patient_data import patient_id_field_of


class HeldError(Exception):
    """A patient is under a legal hold, so nothing was removed. `patient_id` is the patient whom the hold names."""

    def __init__(self, patient_id: int) -> None:
        super().__init__(
            f"Patient {patient_id} is under a legal hold: nothing was removed. To release the hold, run "
            f"`manage.py legal_hold {patient_id} --release`."
        )
        self.patient_id = patient_id


def lock_holds() -> dict[int, int]:
    """Lock the table of holds until the transaction ends: nobody sets or releases one. Returns the ids of all held
    records, each with the id of the patient whom the hold names."""
    with connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {LegalHold._meta.db_table} IN SHARE MODE")
    return LegalHold.objects.active().held_records()


def patients_field_of(model: type[Model]) -> str | None:
    """The field that names the patient, or in the access log the patients, whom a row is about; None without one."""
    return "patient_ids" if model is AccessLog else patient_id_field_of(model)


def rows_about(rows: QuerySet[Any], patient_ids: Collection[int]) -> QuerySet[Any]:
    """Those of the rows that are about one of these patients."""
    field = patients_field_of(rows.model)
    if field is None:
        return rows.none()
    lookup = "overlap" if rows.model is AccessLog else "in"
    return rows.filter(**{f"{field}__{lookup}": list(patient_ids)})


def first_held(about: int | list[int], held: Mapping[int, int]) -> int:
    """The first held record among those that a row is about, which its `patients_field_of` names."""
    return next(record for record in (about if isinstance(about, list) else [about]) if record in held)


def refuse_if_held(patient_ids: Collection[int]) -> None:
    """Raise HeldError if one of these patients is held. Call it in the transaction that removes rows about them."""
    held = lock_holds()
    for patient_id in sorted(held.keys() & set(patient_ids)):
        raise HeldError(held[patient_id])


def refuse_if_rows_held(rows: QuerySet) -> None:
    """Raise HeldError if one of these rows is about a held patient; see `audit.patient_data`."""
    field = patients_field_of(rows.model)
    held = lock_holds() if field else {}
    if not field or not held:
        return
    about = rows_about(rows, held).values_list(field, flat=True).first()
    if about is not None:
        raise HeldError(held[first_held(about, held)])
