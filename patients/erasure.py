"""Erasing a person (GDPR article 17): deletes every row with data about the patient."""

from collections import Counter
from collections.abc import Collection
from typing import Any

from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django.db.models import ForeignObjectRel, Model, Q, QuerySet
from django.utils import timezone

from audit.erasure import forget_accesses, forget_events
from audit.history import Event
from audit.legal_hold import refuse_if_held, refuse_if_rows_held
from audit.models import AccessLog
from audit.patient_data import patient_id_field_of
from healthcare.api.models import IdempotencyRecord
from healthcare.imports.models import ImportedLine, StagedRow
from healthcare.search.triggers import remove_words
from patients.models import PATIENT_SEARCH, ErasureReceipt, Patient, PatientEvent, PatientMerge, PatientTransfer


class MergedError(Exception):
    """The patient was merged into another one; `survivor` is the id of that one."""

    def __init__(self, survivor: int) -> None:
        self.survivor = survivor


@transaction.atomic
def erase(patient_id: int, *, reason: str, account: str, username: str = "") -> ErasureReceipt:
    """Erase the patient, the records merged into it and all rows that refer to them, in one transaction. Returns the
    receipt.

    Raises Patient.DoesNotExist, MergedError for a duplicate, whose data is in the survivor too, and HeldError. The
    patient's row is locked first, so that no concurrent request changes, assigns, merges or holds it.
    """
    patient = Patient.objects.select_for_update().get(pk=patient_id)
    if patient.merged_into_id:
        raise MergedError(patient.merged_into_id)
    patient_ids = merged_record_ids([patient.pk])
    refuse_if_held({*patient_ids, *sides_of_undone_merges(patient_ids)})
    former_owners = former_owners_of(patient_ids) - {patient.created_by_id}
    counts = Counter(
        {IdempotencyRecord._meta.db_table: erase_answers_about_patients(patient_ids, patient.created_by_id)}
    )
    counts[PatientEvent._meta.db_table] += erase_values_copied_by_merges(patient_ids)
    counts += erase_rows(Patient, [patient.pk])
    remove_unused_words(former_owners)
    counts[AccessLog._meta.db_table] += forget_accesses(patient_ids)
    counts[StagedRow._meta.db_table] += StagedRow.objects.forget(former_owners)
    return ErasureReceipt.objects.create(
        record_id=patient_id, account=account, username=username, reason=reason, counts=dict(sorted((+counts).items()))
    )


def merged_record_ids(patient_ids: Collection[int]) -> list[int]:
    """The ids of these records and of all records that were merged into them, directly or through others."""
    found = newest = [*patient_ids]
    while newest:
        newest = list(Patient.objects.filter(merged_into__in=newest).values_list("pk", flat=True))
        found = found + newest
    return found


def former_owners_of(patient_ids: Collection[int]) -> set[int]:
    """The ids of the users to whom these patients have belonged, as far as history and transfers go back."""
    owners = {*PatientEvent.objects.filter(id__in=patient_ids).values_list("created_by", flat=True)}
    return owners | {*PatientTransfer.objects.filter(patient__in=patient_ids).values_list("from_owner", flat=True)}


def remove_unused_words(owner_ids: Collection[int]) -> None:
    """Remove the words that no patient of these owners has any more from what their searches look words up in.

    A word stays there when its patient gets another name or another owner. Deleting a patient removes those of the
    present owner.
    """
    if owner_ids:
        with connection.cursor() as cursor:
            cursor.execute(remove_words(PATIENT_SEARCH, "owner = ANY(%s)"), [[*owner_ids]])


def sides_of_undone_merges(patient_ids: list[int]) -> set[int]:
    """The ids of both patients of each undone merge of these: the merge, and what it copied, are about both."""
    merges = PatientMerge.objects.hidden().filter(Q(survivor__in=patient_ids) | Q(duplicate__in=patient_ids))
    return {side for sides in merges.values_list("survivor_id", "duplicate_id") for side in sides}


def erase_answers_about_patients(patient_ids: list[int], owner_id: int) -> int:
    """Erase the stored answers to keyed requests about these patients; return their number.

    An answer of the owner without a request id, stored by an earlier version, may be one of them.
    """
    unnamed = Q(request_id="", user_id=owner_id) & ~Q(body="")
    return IdempotencyRecord.objects.filter(Q(pk__in=answers_about_patients(patient_ids)) | unnamed).erase_answers()


def answers_about_patients(patient_ids: Collection[int]) -> list[str]:
    """The keys of the stored answers to requests that wrote or read data about these patients.

    The history and the access log name the requests, by the user, who may be a delegate of the owner, and the request
    id, which the client may have chosen and another user's client as well.
    """
    since = timezone.now() - IdempotencyRecord.LIFETIME
    accesses = AccessLog.objects.filter(patient_ids__overlap=[*patient_ids], at__gte=since)
    requests = {*accesses.values_list("actor", "request_id").distinct()}
    for events in apps.get_models():
        field = patient_id_field_of(events) if issubclass(events, Event) else None
        if field:
            about = events._base_manager.filter(**{f"{field}__in": patient_ids}, pgh_created_at__gte=since)
            requests.update(about.values_list("pgh_context__actor", "pgh_context__request_id").distinct())
    request_ids = {request_id for _, request_id in requests if request_id}
    stored = IdempotencyRecord.objects.filter(request_id__in=request_ids).values_list("pk", "user_id", "request_id")
    return [key for key, *request in stored if tuple(request) in requests]


def erase_values_copied_by_merges(patient_ids: list[int]) -> int:
    """Delete the events of other patients that may hold values of these. Returns the number of events."""
    return sum(forget_events(events_during(merge)) for merge in undone_merges_that_copied(patient_ids))


def undone_merges_that_copied(patient_ids: Collection[int]) -> list[PatientMerge]:
    """The merges, undone since, that have copied values of these patients to others.

    Such a patient may have been merged into yet another one in between.
    """
    undone = PatientMerge.objects.hidden()
    merges = list(undone.filter(duplicate__in=patient_ids).exclude(survivor__in=patient_ids))
    for merge in merges:  # the loop appends merges that passed the values on
        during = {"pk__gt": merge.pk, "created_at__lt": merge.unmerged_at}
        merges += undone.filter(duplicate=merge.survivor_id, **during)
    return [merge for merge in merges if merge.first_version]


def events_during(merge: PatientMerge) -> Any:
    """The events of the survivor that may hold values of the duplicate, until the merge was undone."""
    return PatientEvent.objects.filter(
        id=merge.survivor_id, version__gte=merge.first_version, version__lt=merge.last_version
    )


def erase_rows(model: type[Model], keys: list[int]) -> Counter[str]:
    """Delete these rows, every row that refers to them, the lines of imports about them, what the owner's unfinished
    imports have read, and their entries in the admin's log. Counts rows by table.

    Rows that a foreign key constraint ties to these are deleted before them, other referring rows after them: a
    history, for example, whose trigger records the deletion too. The events of rows that are about another patient now
    stay: see `without_events_of_present_rows`.
    """
    counts: Counter[str] = Counter()
    if not keys:
        return counts
    counts[StagedRow._meta.db_table] += forget_staged(model, keys)
    constrained, unconstrained = references(model)
    for reference in constrained:
        counts += erase_rows(*referring_rows(reference, keys))
    counts[model._meta.db_table] += delete_rows(model._base_manager.filter(pk__in=keys))
    for reference in unconstrained:
        referring, referring_keys = referring_rows(reference, keys)
        if issubclass(referring, Event):
            referring_keys = without_events_of_present_rows(referring, referring_keys)
        counts += erase_rows(referring, referring_keys)
    for events in (events for events in apps.get_models() if getattr(events, "pgh_tracked_model", None) is model):
        counts[events._meta.db_table] += delete_rows(events._base_manager.filter(id__in=keys))
    counts[ImportedLine._meta.db_table] += ImportedLine.objects.forget(model, keys)
    kind = ContentType.objects.get_for_model(model)
    entries = LogEntry.objects.filter(content_type=kind, object_id__in=[str(key) for key in keys])
    counts[LogEntry._meta.db_table] += delete_rows(entries)
    return +counts


def forget_staged(model: type[Model], keys: list[int]) -> int:
    """Forget what has been read of files of the owners of these rows, and return the number of rows of them."""
    if not hasattr(model, "import_kind"):
        return 0
    return StagedRow.objects.forget(model._base_manager.filter(pk__in=keys).values_list("created_by", flat=True))


def without_events_of_present_rows(events: Any, keys: list[int]) -> list[int]:
    """The keys of these events without those of rows that are about another patient now.

    Call it when the rows about the erased patient are gone. Rows change their patient only by a merge and when it is
    undone. An event between the two refers to the survivor, but holds data of the other patient.
    """
    if not patient_id_field_of(events):
        return keys
    present = events.pgh_tracked_model._base_manager.values("pk")
    others = events._base_manager.filter(pk__in=keys).exclude(id__in=present)
    return list(others.values_list("pk", flat=True))


def delete_rows(rows: QuerySet) -> int:
    """Delete rows that nothing refers to any more, those of an append-only history included. Raises HeldError."""
    if issubclass(rows.model, Event):
        return forget_events(rows)
    refuse_if_rows_held(rows)
    return rows.delete()[0]


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
