"""Erasing a person from the audit: the one path by which append-only rows go, and it leaves a note of which."""

from collections.abc import Iterable

import pgtrigger
from django.db import transaction
from django.db.models import F, Func, QuerySet, Value

from audit.models import AccessLog, Forgotten


@transaction.atomic
def forget_events(events: QuerySet) -> int:
    """Remove these events for good; returns how many there were. Only their numbers are noted, for `verify_audit`."""
    keys = list(events.values_list("pk", flat=True))
    note(events.model._meta.db_table, keys)
    with pgtrigger.ignore(f"{events.model._meta.label}:append_only"):
        events.model._default_manager.filter(pk__in=keys).delete()
    return len(keys)


@transaction.atomic
def forget_accesses(patient_ids: list[int]) -> int:
    """Remove these patients from the access log for good; returns in how many rows any of them stood. An access to
    other patients too stays, without these."""
    keys = list(AccessLog.objects.filter(patient_ids__overlap=patient_ids).values_list("pk", flat=True))
    note(AccessLog._meta.db_table, keys)
    accesses = AccessLog.objects.filter(pk__in=keys)
    others: F | Func = F("patient_ids")
    for patient_id in patient_ids:
        others = Func(others, Value(patient_id), function="array_remove")
    with pgtrigger.ignore(f"{AccessLog._meta.label}:append_only"):
        accesses.filter(patient_ids__contained_by=patient_ids).delete()
        accesses.update(patient_ids=others)
    return len(keys)


def note(table: str, keys: Iterable[int]) -> None:
    Forgotten.objects.bulk_create((Forgotten(table=table, row=key) for key in keys), ignore_conflicts=True)
