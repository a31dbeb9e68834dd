"""Erasing a person from history and access log: beside `archive` the only code that deletes append-only rows. It
records their ids, and refuses what is about a patient under a legal hold."""

from collections.abc import Iterable

import pgtrigger
from django.db import transaction
from django.db.models import F, Func, QuerySet, Value

from audit.legal_hold import refuse_if_held, refuse_if_rows_held
from audit.models import AccessLog, Forgotten


@transaction.atomic
def forget_events(events: QuerySet) -> int:
    """Delete these events and return their number. Their ids are recorded in `Forgotten`, for `verify_audit`.

    Raises HeldError."""
    refuse_if_rows_held(events)
    keys = list(events.values_list("pk", flat=True))
    record_forgotten(events.model._meta.db_table, keys)
    with pgtrigger.ignore(f"{events.model._meta.label}:append_only"):
        events.model._default_manager.filter(pk__in=keys).delete()
    return len(keys)


@transaction.atomic
def forget_accesses(patient_ids: list[int]) -> int:
    """Delete these patients from the access log and return the number of rows that named any of them. A row that names
    other patients as well stays, without these. Raises HeldError."""
    refuse_if_held(patient_ids)
    keys = list(AccessLog.objects.filter(patient_ids__overlap=patient_ids).values_list("pk", flat=True))
    record_forgotten(AccessLog._meta.db_table, keys)
    accesses = AccessLog.objects.filter(pk__in=keys)
    others: F | Func = F("patient_ids")
    for patient_id in patient_ids:
        others = Func(others, Value(patient_id), function="array_remove")
    with pgtrigger.ignore(f"{AccessLog._meta.label}:append_only"):
        accesses.filter(patient_ids__contained_by=patient_ids).delete()
        accesses.update(patient_ids=others)
    return len(keys)


def record_forgotten(table: str, keys: Iterable[int]) -> None:
    Forgotten.objects.bulk_create((Forgotten(table=table, row=key) for key in keys), ignore_conflicts=True)
