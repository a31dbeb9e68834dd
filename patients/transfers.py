"""Moves patients to another owner: by an offer that the other side accepts, or by staff.

Everything that belongs to a patient moves with it: the records merged into it, the rows that refer to them, their
history, and the search terms, which triggers move. The former owner can reach nothing of it afterwards, not even a
stored answer to one of their requests. The functions write with the rights of the tables' owner, in the caller's
transaction.
"""

from collections.abc import Collection
from contextlib import suppress
from typing import Any

from django.db import IntegrityError, transaction
from django.shortcuts import get_object_or_404
from django.utils import timezone

from accounts.delegations.named_users import as_named_user
from accounts.delegations.notices import notify
from accounts.models import User
from audit.history import event_model_of
from healthcare.api.exceptions import Conflict
from healthcare.api.fields import DateTimeField
from healthcare.api.models import IdempotencyRecord
from healthcare.ownership import OwnedModel
from healthcare.rls.context import without_role
from patients.erasure import (
    answers_about_patients,
    events_during,
    merged_record_ids,
    sides_of_undone_merges,
    undone_merges_that_copied,
)
from patients.legal_hold import held_among
from patients.merges import related_rows
from patients.models import Patient, PatientEvent, PatientMerge, PatientTransfer, PatientTransferQuerySet, TransferState

NO_OWNER = -1  # of versions that nobody sees; not 0, which is the owner's id in a request without a working delegation


class PendingTransfer(Conflict):
    default_detail = "A transfer of this patient is pending; withdraw that one first."


class SettledTransfer(Conflict):
    default_detail = "This transfer is settled: it was accepted, declined or withdrawn, or has lapsed."


class Untransferable(Conflict):
    """One answer for a patient who has been deleted, merged, held or given to somebody since: the other side learns
    nothing about the patient."""

    default_detail = "This patient cannot be transferred as it is now; ask the owner."


class HeldPatient(Conflict):
    default_detail = (
        "This patient is under a legal hold and is not transferred until the hold is released; ask a member of staff."
    )


def offer(patient: Patient, to: User, by: User) -> PatientTransfer:
    """Offer an active patient to another owner. Raises PendingTransfer, HeldPatient and, where a concurrent request has
    changed the patient's state, Untransferable (each 409)."""
    with without_role():
        lock_for_transfer(patient.pk, patient.created_by_id)
        if held_among([patient]):
            raise HeldPatient
        settle_expired(PatientTransfer.objects.filter(patient=patient))
        try:
            with transaction.atomic():
                transfer = PatientTransfer.objects.create(
                    patient=patient, from_owner_id=patient.created_by_id, to_owner=to
                )
        except IntegrityError as error:
            raise PendingTransfer from error
        notify_of_transfer(transfer, "transfer_offered", by)
    return transfer


def accept(transfer: PatientTransfer, by: User) -> PatientTransfer:
    """Move the patient to whom it was offered. Raises SettledTransfer and Untransferable (409)."""
    if transfer.current_state != TransferState.PENDING:
        raise SettledTransfer
    with without_role():
        lock_with_merged([transfer.patient_id])
        patient = lock_for_transfer(transfer.patient_id, transfer.from_owner_id)
        transfer = lock_pending(transfer)
        if held_among([patient]):
            raise Untransferable
        settle(transfer, TransferState.ACCEPTED, by)
        move_patients([patient.pk], transfer.from_owner, transfer.to_owner, by)
    return transfer


def decline(transfer: PatientTransfer, by: User | None) -> PatientTransfer:
    """Refuse what was offered. Raises SettledTransfer (409)."""
    return end_offer(transfer, TransferState.DECLINED, by)


def withdraw(transfer: PatientTransfer, by: User | None) -> PatientTransfer:
    """Take an offer back. Raises SettledTransfer (409)."""
    return end_offer(transfer, TransferState.WITHDRAWN, by)


def end_offer(transfer: PatientTransfer, state: TransferState, by: User | None) -> PatientTransfer:
    with without_role():
        transfer = lock_pending(transfer)
        settle(transfer, state, by)
    return transfer


def settle_expired(transfers: PatientTransferQuerySet) -> None:
    """Record the lapse of those among these that have expired, and notify both sides."""
    with without_role():
        expired = transfers.expired().select_related("from_owner", "to_owner")
        for transfer in expired.order_by("pk").select_for_update(no_key=True, of=("self",), skip_locked=True):
            settle(transfer, TransferState.LAPSED, None)


def lock_for_transfer(patient_id: int, owner_id: int) -> Patient:
    """The patient's row, which is locked before the transfer's, here and where staff move patients. Raises
    Untransferable (409) unless it is active and belongs to this owner."""
    patient = Patient.objects.active().locked().filter(pk=patient_id, created_by=owner_id).first()
    if patient is None:
        raise Untransferable
    return patient


def lock_pending(transfer: PatientTransfer) -> PatientTransfer:
    """The transfer as it is now, its row locked. Raises SettledTransfer (409) unless it is pending."""
    rows = PatientTransfer.objects.select_related("from_owner", "to_owner")
    locked = get_object_or_404(rows.select_for_update(no_key=True, of=("self",)), pk=transfer.pk)
    if locked.current_state != TransferState.PENDING:
        raise SettledTransfer
    return locked


def settle(transfer: PatientTransfer, state: TransferState, by: User | None) -> None:
    """Store the final state of a locked transfer, and notify both sides."""
    transfer.state, transfer.settled_at = state, timezone.now()
    transfer.save(update_fields=["state", "settled_at"])
    notify_of_transfer(transfer, f"transfer_{state}", by)


def notify_of_transfer(transfer: PatientTransfer, kind: str, by: User | None) -> None:
    """Add notices for both sides, without the one who has done it: an owner learns what a delegate has done."""
    about = {
        "id": transfer.pk,
        "from": as_named_user(transfer.from_owner),
        "to": as_named_user(transfer.to_owner),
        "expires_at": DateTimeField().to_representation(transfer.expires_at),
    }
    notify([transfer.from_owner, transfer.to_owner], kind, by, about)


def move_patients(patient_ids: Collection[int], giver: User, to: User, by: User | None) -> int:
    """Give those of these patients who belong to the giver and were not merged into others, and all that belongs to
    them, to another owner. Returns how many rows of patients that were, merged ones included.

    Their transfers that are still pending are withdrawn.
    """
    lock_with_merged(patient_ids)
    moving = Patient.objects.owned_by(giver).unmerged().filter(pk__in=patient_ids)
    records = merged_record_ids(moving.values_list("pk", flat=True))
    IdempotencyRecord.objects.filter(pk__in=answers_about_patients(records)).withdraw_answers()
    Patient.objects.filter(pk__in=records).update(created_by=to)
    PatientMerge.objects.filter(survivor__in=records).update(created_by=to)
    give_history(records, to)
    for _, field, rows in related_rows():
        if issubclass(rows.model, OwnedModel):
            give_related_rows(rows.model, field, records, to)
    for transfer in PatientTransfer.objects.pending().filter(patient__in=records).order_by("pk"):
        with suppress(SettledTransfer):  # it has lapsed, or the other side declines it right now
            withdraw(transfer, by)
    return len(records)


def lock_with_merged(patient_ids: Collection[int]) -> list[int]:
    """The ids of these patients and of all records that were merged into them, each locked.

    Those with whom they share versions, by merges that were undone, are locked as well: who sees such a version depends
    on the owners of both, and the other one may be about to move too. All are locked in the order of their ids, as a
    merge locks its two, so that nothing deadlocks. A merge that was added or undone meanwhile makes it look again.
    """
    locked: set[int] = set()
    while True:
        records = merged_record_ids(patient_ids)
        wanted = with_sides_of_undone_merges(records)
        if wanted <= locked:
            return records
        # One that has been erased meanwhile is not found, and stays among the ids.
        list(Patient.objects.filter(pk__in=wanted).order_by("pk").locked().values_list("pk", flat=True))
        locked |= wanted


def with_sides_of_undone_merges(patient_ids: Collection[int]) -> set[int]:
    """The ids of these patients and of all with whom undone merges connect them, directly or through others."""
    found: set[int] = set()
    newest = {*patient_ids}
    while newest:
        found |= newest
        newest = sides_of_undone_merges([*newest]) - found
    return found


def give_history(records: Collection[int], to: User) -> None:
    """Give the history of these patients, who belong to the owner by now, to the owner.

    A version may hold values of another patient too, whose record was merged into this one by mistake until the merge
    was undone. While the two have different owners, nobody sees such a version, whichever of the two has moved.
    """
    copied = undone_merges_that_copied(records)
    left_behind = ids_of_others([merge.survivor_id for merge in copied], to)
    # With those of the owner's patients who had values of these: they may be the owner's alone again.
    own = {*records, *(merge.survivor_id for merge in copied)}.difference(left_behind)
    PatientEvent.objects.filter(id__in=own).give_to(to.pk)
    others = ids_of_others(merged_by_mistake(own), to)
    hidden = [merge for merge in copied if merge.survivor_id in left_behind]
    hidden += [merge for merge in undone_merges_that_copied(others) if merge.survivor_id in own]
    for merge in hidden:
        events_during(merge).give_to(NO_OWNER)


def ids_of_others(patient_ids: Collection[int], owner: User) -> list[int]:
    """The ids of those of these patients who do not belong to the owner."""
    return list(Patient.objects.filter(pk__in=patient_ids).exclude(created_by=owner).values_list("pk", flat=True))


def merged_by_mistake(patient_ids: Collection[int]) -> list[int]:
    """The ids of all records that were merged into these, directly or through others, until it was undone."""
    undone = PatientMerge.objects.hidden()
    found = newest = [*patient_ids]
    while newest:
        duplicates = undone.filter(survivor__in=newest).exclude(duplicate__in=found)
        newest = list(duplicates.values_list("duplicate", flat=True).distinct())
        found = found + newest
    return found


def give_related_rows(model: type[OwnedModel], field: str, records: Collection[int], to: User) -> None:
    """Give the rows that refer to these patients, and their history, to the owner."""
    rows: Any = model._base_manager.filter(**{f"{field}__in": records})
    keys = list(rows.order_by("pk").select_for_update(no_key=True).values_list("pk", flat=True))
    rows.update(created_by=to)
    events = event_model_of(model)
    if events:
        events.objects.filter(id__in=keys).give_to(to.pk)
