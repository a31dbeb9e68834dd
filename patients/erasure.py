"""Erasing a person (GDPR article 17): deletes every row with data about the patient."""

from collections import Counter

from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import ForeignObjectRel, Model, QuerySet

from audit.erasure import forget_accesses, forget_events
from audit.history import Event
from audit.models import AccessLog
from healthcare.api.models import IdempotencyRecord
from patients.models import ErasureReceipt, Patient, PatientEvent, PatientMerge


class MergedError(Exception):
    """The patient was merged into another one; `survivor` is the id of that one."""

    def __init__(self, survivor: int) -> None:
        self.survivor = survivor


@transaction.atomic
def erase(patient_id: int, *, reason: str, account: str, username: str = "") -> ErasureReceipt:
    """Erase the patient, the records merged into it and all rows that refer to them, in one transaction. Returns the
    receipt.

    Raises Patient.DoesNotExist, and MergedError for a duplicate, whose data is in the survivor too. The patient's row
    is locked first, so that no concurrent request changes, assigns or merges it.
    """
    patient = Patient.objects.select_for_update().get(pk=patient_id)
    if patient.merged_into_id:
        raise MergedError(patient.merged_into_id)
    patient_ids = merged_record_ids(patient)
    counts = Counter({PatientEvent._meta.db_table: erase_values_copied_by_merges(patient_ids)})
    counts += erase_rows(Patient, [patient.pk])
    counts[AccessLog._meta.db_table] += forget_accesses(patient_ids)
    # A stored response of an idempotency key may hold the patient. The owner's other keys lose their protection too.
    counts[IdempotencyRecord._meta.db_table] += delete_rows(
        IdempotencyRecord.objects.filter(user_id=patient.created_by_id)
    )
    return ErasureReceipt.objects.create(
        patient_id=patient_id, account=account, username=username, reason=reason, counts=dict(sorted((+counts).items()))
    )


def merged_record_ids(patient: Patient) -> list[int]:
    """The ids of the record and of all records that were merged into it, directly or through others."""
    found = newest = [patient.pk]
    while newest:
        newest = list(Patient.objects.filter(merged_into__in=newest).values_list("pk", flat=True))
        found = found + newest
    return found


def erase_values_copied_by_merges(patient_ids: list[int]) -> int:
    """Delete the events of other patients that may hold values of these, copied by a merge that was undone since.

    Such a patient may have been merged into yet another one in between. Returns the number of events.
    """
    undone = PatientMerge.objects.hidden()
    merges = list(undone.filter(duplicate__in=patient_ids).exclude(survivor__in=patient_ids))
    for merge in merges:  # the loop appends merges that passed the values on
        during = {"pk__gt": merge.pk, "created_at__lt": merge.unmerged_at}
        merges += undone.filter(duplicate=merge.survivor_id, **during)
    return sum(
        forget_events(
            PatientEvent.objects.filter(
                id=merge.survivor_id, version__gte=merge.first_version, version__lt=merge.last_version
            )
        )
        for merge in merges
        if merge.first_version
    )


def erase_rows(model: type[Model], keys: list[int]) -> Counter[str]:
    """Delete these rows, every row that refers to them and their entries in the admin's log. Counts rows by table.

    Rows that a foreign key constraint ties to these are deleted before them, other referring rows after them: a
    history, for example, whose trigger records the deletion too.
    """
    counts: Counter[str] = Counter()
    if not keys:
        return counts
    constrained, unconstrained = references(model)
    for reference in constrained:
        counts += erase_rows(*referring_rows(reference, keys))
    counts[model._meta.db_table] += delete_rows(model._base_manager.filter(pk__in=keys))
    for reference in unconstrained:
        counts += erase_rows(*referring_rows(reference, keys))
    for events in (events for events in apps.get_models() if getattr(events, "pgh_tracked_model", None) is model):
        counts[events._meta.db_table] += delete_rows(events._base_manager.filter(id__in=keys))
    kind = ContentType.objects.get_for_model(model)
    entries = LogEntry.objects.filter(content_type=kind, object_id__in=[str(key) for key in keys])
    counts[LogEntry._meta.db_table] += delete_rows(entries)
    return +counts


def delete_rows(rows: QuerySet) -> int:
    """Delete rows that nothing refers to any more, those of an append-only history included."""
    return forget_events(rows) if issubclass(rows.model, Event) else rows.delete()[0]


def references(model: type[Model]) -> tuple[list[ForeignObjectRel], list[ForeignObjectRel]]:
    """Every foreign key of any app to a model: those with a constraint in the database, and those without."""
    relations = [
        field
        for field in model._meta.get_fields(include_hidden=True)
        if isinstance(field, ForeignObjectRel) and (field.one_to_many or field.one_to_one)
    ]
    enforced = [relation for relation in relations if getattr(relation.field, "db_constraint", False)]
    return enforced, [relation for relation in relations if relation not in enforced]


def referring_rows(reference: ForeignObjectRel, keys: list[int]) -> tuple[type[Model], list[int]]:
    """The model that has a foreign key, and the keys of its rows that refer to these."""
    rows = reference.related_model._base_manager.filter(**{f"{reference.field.name}__in": keys})
    return reference.related_model, list(rows.values_list("pk", flat=True))
