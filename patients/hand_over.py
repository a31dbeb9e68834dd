"""Handing over everything that a user owns, when the user leaves: the patients, and the delegations that were given."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from django.db import connection, transaction
from django.db.models import QuerySet

from accounts.delegations.models import Delegation
from accounts.delegations.rules import as_table_owner, notify_of_delegation, revoke_delegation
from accounts.models import User
from healthcare.migration_operations import ROW_LOCK_TIMEOUT, retry_while_locked
from patients.models import Patient, PatientTransfer
from patients.transfers import SettledTransfer, decline, move_patients

PATIENTS_PER_TRANSACTION = 100
LOCKED = "Others hold locks on the patients for long. Wait for them or end them (pg_stat_activity), then try again."


@dataclass
class HandedOverDelegations:
    """The living delegations that a user had given: those that another user gives now, and those that have ended."""

    moved: list[Delegation] = field(default_factory=list)
    ended: list[Delegation] = field(default_factory=list)


def patients_of(owner: User) -> QuerySet[Patient]:
    """What there is to hand over: the owner's patients, deleted ones included. Merged ones go with their survivors."""
    return Patient.objects.owned_by(owner).unmerged()


def hand_over_delegations(giver: User, to: User, by: User | None = None) -> HandedOverDelegations:
    """Move the living delegations of the giver to the other user if that is a clinic or owns no records, else end them:
    the delegates would see patients that nobody has shown to them. A delegation ends, too, if its delegate is the other
    user, or has a living delegation from the other user already.

    Offers of patients to the giver are declined. Raises Conflict (409, `code: last_manager`) if the giver is a clinic,
    which would be left without a manager.
    """
    result = HandedOverDelegations()
    may_move = to.is_clinic or not Patient.objects.owned_by(to).exists()
    Delegation.objects.filter(owner=to).end_expired()
    not_moved = {to.pk, *Delegation.objects.living().filter(owner=to).values_list("delegate", flat=True)}
    given = Delegation.objects.living().filter(owner=giver).select_related("owner", "delegate").order_by("pk")
    for delegation in given.select_for_update(no_key=True, of=("self",)):
        if not may_move or delegation.delegate_id in not_moved:
            revoke_delegation(delegation, by)
            result.ended.append(delegation)
            continue
        delegation.owner = to
        with as_table_owner():
            delegation.save(update_fields=["owner"])
            notify_of_delegation(delegation, "delegation_changed", by)
        result.moved.append(delegation)
    for transfer in PatientTransfer.objects.pending().filter(to_owner=giver).order_by("pk"):
        with suppress(SettledTransfer):  # it has lapsed, or somebody settles it right now
            decline(transfer, by)
    return result


def hand_over_patients(giver: User, to: User) -> Iterator[int]:
    """Give all patients of one user to another, in transactions of PATIENTS_PER_TRANSACTION patients. Yields the number
    of rows of patients, merged ones included, after each.

    It may be interrupted at any point: the next call continues. Patients whom the giver adds meanwhile are moved, too.
    Raises CommandError if others hold locks on the patients for five minutes.
    """
    while keys := list(patients_of(giver).order_by("pk").values_list("pk", flat=True)[:PATIENTS_PER_TRANSACTION]):
        yield retry_while_locked(partial(move_batch, keys, giver, to), LOCKED)


def move_batch(patient_ids: list[int], giver: User, to: User) -> int:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{ROW_LOCK_TIMEOUT}'")
        return move_patients(patient_ids, giver, to, None)
