"""Erasing a doctor, or a user who owns no patients. What refers to both is known here alone."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import IntegrityError, transaction
from django.db.models import Model, Q

from accounts.admin_sessions import end_admin_sessions
from accounts.delegations.models import DelegationEvent, Notice
from accounts.delegations.triggers import managers_checked_at_end
from accounts.invitations.models import Invitation
from accounts.leaving.attempts import addresses_of, attempts_of
from accounts.models import Attempts, User
from audit.erasure import forget_events
from audit.models import UserEvent
from doctors.models import Doctor, DoctorEvent
from healthcare.api.models import IdempotencyRecord
from mappings.models import Mapping
from patients.erasure import delete_rows, erase_rows, references, referring_rows, remove_unused_words
from patients.models import ErasureReceipt, Patient

# By model, what gives the stored answers that name the record with an id. No history tells of a request that it has
# only read a doctor or the name of a user, so an app whose answers hold them says how to find those.
ANSWERS_NAMING: dict[type[Model], Callable[[int], Q]] = {}


class LastManagerError(Exception):
    """A clinic would be left without a manager. The text says what to do first."""


class StillNeededError(Exception):
    """Other records depend on this one: so many, as `count`."""

    def __init__(self, count: int) -> None:
        self.count = count


@transaction.atomic
def erase_doctor(doctor_id: int, *, reason: str, account: str, username: str = "") -> ErasureReceipt:
    """Erase the doctor, the history and search terms, and the assignments that have ended. Returns the receipt.

    Raises Doctor.DoesNotExist, and StillNeededError while the doctor treats somebody. The doctor's row is locked first,
    so that nobody assigns the doctor meanwhile.
    """
    doctor = Doctor.objects.select_for_update().get(pk=doctor_id)
    if active := Mapping.objects.active().of_active_patients().filter(doctor=doctor).count():
        raise StillNeededError(active)
    counts = Counter({IdempotencyRecord._meta.db_table: erase_answers_about_record(doctor, DoctorEvent)})
    counts += erase_rows(Doctor, [doctor.pk])
    return keep_receipt(ErasureReceipt.Kind.DOCTOR, doctor_id, counts, reason, account, username)


def erase_user(user: User, *, reason: str, account: str, username: str = "") -> ErasureReceipt:
    """Erase the account or the clinic: its login sessions and tokens, those of the admin, its second factor, the
    addresses of its logins, the counts of attempts, its delegations to and from others, the notices that name it, the
    invitations that it has made or used and those to its e-mail, its entries in the admin's log, and its history.
    Returns the receipt.

    Doctors whom the user has added stay, without a creator, and so do the history and the access log of what the user
    did: they name the user by an id that means nobody any more. Raises StillNeededError for a user who owns patients,
    deleted ones included, and LastManagerError for the last manager of a clinic.
    """
    try:
        with transaction.atomic(), managers_checked_at_end():
            return erase_user_and_references(user, reason, account, username)
    except IntegrityError as error:
        if getattr(getattr(error.__cause__, "diag", None), "constraint_name", "") != "last_manager":
            raise
        raise LastManagerError(
            "This user is the last manager of a clinic: first give another user the role manage there, without an end."
        ) from error


def erase_user_and_references(user: User, reason: str, account: str, username: str) -> ErasureReceipt:
    user = User.objects.select_for_update().get(pk=user.pk)
    if owned := Patient.objects.filter(created_by=user).count():
        raise StillNeededError(owned)
    counts = Counter({IdempotencyRecord._meta.db_table: erase_answers_about_record(user, UserEvent)})
    # Answers about delegations and transfers, for example, name both sides.
    naming = IdempotencyRecord.objects.filter(body__contains=f'"username":{json.dumps(user.username)}')
    counts[IdempotencyRecord._meta.db_table] += naming.erase_answers()
    Doctor.objects.filter(created_by=user).update(created_by=None)
    end_admin_sessions([user.pk])
    counts[Attempts._meta.db_table] += delete_rows(Attempts.objects.filter(key__in=attempts_of(user)))
    addressed = Invitation.objects.filter(email__lower__in=addresses_of(user))
    counts[Invitation._meta.db_table] += delete_rows(addressed)
    for reference in references(User)[0]:
        if reference.related_model._meta.proxy:
            continue  # of a library, over a model without a table
        counts += erase_rows(*referring_rows(reference, [user.pk]))
    key = user.pk
    remove_unused_words([key])  # of patients who have been handed over
    counts[Notice._meta.db_table] += delete_rows(Notice.objects.naming(key))
    # Of delegations that others have now, since they were handed over.
    moved: Any = DelegationEvent
    counts[DelegationEvent._meta.db_table] += forget_events(moved._base_manager.filter(Q(owner=key) | Q(delegate=key)))
    counts[User._meta.db_table] += delete_rows(User._base_manager.filter(pk=key))
    history: Any = UserEvent
    counts[UserEvent._meta.db_table] += forget_events(history._base_manager.filter(id=key))
    entries = LogEntry.objects.filter(content_type=ContentType.objects.get_for_model(User), object_id=str(key))
    counts[LogEntry._meta.db_table] += delete_rows(entries)
    return keep_receipt(ErasureReceipt.Kind.USER, key, counts, reason, account, username)


def erase_answers_about_record(record: Model, events: Any) -> int:
    """Erase the stored answers to keyed requests that wrote this record, by its history, and those that name it; return
    their number."""
    written = events._base_manager.filter(id=record.pk).values_list("pgh_context__request_id", flat=True)
    about = Q(request_id__in={*written} - {"", None})
    if naming := ANSWERS_NAMING.get(type(record)):
        about |= naming(record.pk)
    return IdempotencyRecord.objects.filter(about).erase_answers()


def keep_receipt(
    kind: ErasureReceipt.Kind, key: int, counts: Counter[str], reason: str, account: str, username: str
) -> ErasureReceipt:
    return ErasureReceipt.objects.create(
        kind=kind,
        record_id=key,
        account=account,
        username=username,
        reason=reason,
        counts=dict(sorted((+counts).items())),
    )
