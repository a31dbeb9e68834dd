"""Erasing a person from the audit: the one path by which append-only rows go, and it leaves a note of which."""

import pgtrigger
from django.db import connection, transaction

from audit.history import EventQuerySet
from audit.models import AccessLog, Forgotten

# An access to several patients stays, without this one.
FORGET_ACCESSES = """
WITH gone AS (DELETE FROM audit_accesslog WHERE patient_ids = ARRAY[%(patient)s] RETURNING id),
    relieved AS (
        UPDATE audit_accesslog SET patient_ids = array_remove(patient_ids, %(patient)s)
        WHERE patient_ids @> ARRAY[%(patient)s] AND patient_ids <> ARRAY[%(patient)s] RETURNING id
    ), both_kinds AS (SELECT id FROM gone UNION ALL SELECT id FROM relieved)
INSERT INTO audit_forgotten ("table", "row") SELECT 'audit_accesslog', id FROM both_kinds
ON CONFLICT DO NOTHING
"""


@transaction.atomic
def forget_events(events: EventQuerySet) -> int:
    """Remove these events for good; returns how many there were. Only their numbers are noted, for `verify_audit`."""
    table, keys = events.model._meta.db_table, list(events.values_list("pgh_id", flat=True))
    Forgotten.objects.bulk_create(Forgotten(table=table, row=key) for key in keys)
    with pgtrigger.ignore(f"{events.model._meta.label}:append_only"):
        events.model._default_manager.filter(pgh_id__in=keys).delete()
    return len(keys)


@transaction.atomic
def forget_accesses(patient_id: int) -> int:
    """Remove this patient from the access log for good; returns in how many rows it stood."""
    with pgtrigger.ignore(f"{AccessLog._meta.label}:append_only"), connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM audit_accesslog WHERE patient_ids @> ARRAY[%s]::bigint[]", [patient_id])
        found: int = cursor.fetchone()[0]
        cursor.execute(
            FORGET_ACCESSES.replace("ARRAY[%(patient)s]", "ARRAY[%(patient)s]::bigint[]"), {"patient": patient_id}
        )
    return found
