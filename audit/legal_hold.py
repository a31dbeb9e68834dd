"""Legal holds: nothing about a patient under an active hold is deleted, merged, erased or archived.

A soft delete, a merge and its undoing are refused by a trigger on the patient's row (`patients.legal_hold`). What
removes rows, that is erasure and archive, calls `refuse_if_held` in the transaction of the removal. It locks the table
of holds against new ones until that transaction ends, so no hold can be set between the check and the removal.
"""

from collections.abc import Collection
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
    holds = LegalHold.objects.active().values_list("patient_id", "record_ids")
    return {record: patient for patient, records in holds for record in [patient, *records]}


def refuse_if_held(patient_ids: Collection[int]) -> None:
    """Raise HeldError if one of these patients is held. Call it in the transaction that removes rows about them."""
    held = lock_holds()
    for patient_id in sorted(held.keys() & set(patient_ids)):
        raise HeldError(held[patient_id])


def refuse_if_rows_held(rows: QuerySet) -> None:
    """Raise HeldError if one of these rows is about a held patient; see `audit.patient_data`."""
    model: type[Model] = rows.model
    field = patient_id_field_of(model)
    held = lock_holds() if field or model is AccessLog else {}
    if not held:
        return
    condition: dict[str, Any] = {f"{field}__in": list(held)} if field else {"patient_ids__overlap": list(held)}
    found = rows.filter(**condition).values_list(field or "patient_ids", flat=True).first()
    if found is not None:
        raise HeldError(next(held[one] for one in (found if isinstance(found, list) else [found]) if one in held))
