"""Erasing a person for good (GDPR article 17): every row that says anything about the patient."""

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
    """Another record of the same person has taken this one's place; `survivor` is its id."""

    def __init__(self, survivor: int) -> None:
        self.survivor = survivor


@transaction.atomic
def erase(patient_id: int, *, reason: str, account: str, username: str = "") -> ErasureReceipt:
    """Erase the patient, what was merged into it and all that refers to them, in one transaction, and answer the
    receipt that stays.

    Raises Patient.DoesNotExist, and MergedError for a duplicate: what it said is in the survivor too. The patient is
    locked first, so that nobody changes, assigns or merges it meanwhile.
    """
    patient = Patient.objects.select_for_update().get(pk=patient_id)
    if patient.merged_into_id:
        raise MergedError(patient.merged_into_id)
    person = records_of(patient)
    counts = Counter({PatientEvent._meta.db_table: forget_what_was_lent(person)})
    counts += erase_rows(Patient, [patient.pk])
    counts[AccessLog._meta.db_table] += forget_accesses(person)
    # An answer kept for a repeated request may hold the patient; the owner's others only lose that protection.
    counts[IdempotencyRecord._meta.db_table] += remove(IdempotencyRecord.objects.filter(user_id=patient.created_by_id))
    return ErasureReceipt.objects.create(
        patient_id=patient_id, account=account, username=username, reason=reason, counts=dict(sorted((+counts).items()))
    )


def records_of(patient: Patient) -> list[int]:
    """The record and all that were merged into it, directly or by others."""
    found = newest = [patient.pk]
    while newest:
        newest = list(Patient.objects.filter(merged_into__in=newest).values_list("pk", flat=True))
        found = found + newest
    return found


def forget_what_was_lent(person: list[int]) -> int:
    """Forget the events of others that may hold what they had from these records while they were merged into them, or
    into others who were merged into them."""
    lent = list(PatientMerge.objects.hidden().filter(duplicate__in=person).exclude(survivor__in=person))
    for merge in lent:  # grows by what was passed on meanwhile
        during = {"pk__gt": merge.pk, "created_at__lt": merge.unmerged_at}
        lent += PatientMerge.objects.hidden().filter(duplicate=merge.survivor_id, **during)
    return sum(
        forget_events(
            PatientEvent.objects.filter(
                id=merge.survivor_id, version__gte=merge.first_version, version__lt=merge.last_version
            )
        )
        for merge in lent
        if merge.first_version
    )


def erase_rows(model: type[Model], keys: list[int]) -> Counter[str]:
    """Erase these rows, every row that refers to them and what the admin's log says of them; counts rows by table.

    What a constraint ties to a row has to go before it. The rest goes after it: a history, say, that writes down the
    deletion too.
    """
    counts: Counter[str] = Counter()
    if not keys:
        return counts
    tied, loose = references(model)
    for reference in tied:
        counts += erase_rows(*referring(reference, keys))
    counts[model._meta.db_table] += remove(model._base_manager.filter(pk__in=keys))
    for reference in loose:
        counts += erase_rows(*referring(reference, keys))
    for events in (events for events in apps.get_models() if getattr(events, "pgh_tracked_model", None) is model):
        counts[events._meta.db_table] += remove(events._base_manager.filter(id__in=keys))
    kind = ContentType.objects.get_for_model(model)
    entries = LogEntry.objects.filter(content_type=kind, object_id__in=[str(key) for key in keys])
    counts[LogEntry._meta.db_table] += remove(entries)
    return +counts


def remove(rows: QuerySet) -> int:
    """Delete rows that nothing refers to any more. The one place where what is append-only is let go."""
    return forget_events(rows) if issubclass(rows.model, Event) else rows.delete()[0]


def references(model: type[Model]) -> tuple[list[ForeignObjectRel], list[ForeignObjectRel]]:
    """Every foreign key to a model, from whatever room: those that the database enforces, and the others."""
    relations = [
        field
        for field in model._meta.get_fields(include_hidden=True)
        if isinstance(field, ForeignObjectRel) and (field.one_to_many or field.one_to_one)
    ]
    enforced = [relation for relation in relations if getattr(relation.field, "db_constraint", False)]
    return enforced, [relation for relation in relations if relation not in enforced]


def referring(reference: ForeignObjectRel, keys: list[int]) -> tuple[type[Model], list[int]]:
    """The model at the other end of a foreign key, and its rows that refer to these."""
    rows = reference.related_model._base_manager.filter(**{f"{reference.field.name}__in": keys})
    return reference.related_model, list(rows.values_list("pk", flat=True))
