"""The rules of founding clinics, and of giving, changing and ending delegations, for the API, the admin and commands.

Callers have checked that `by` may do it. The functions write with the rights of the tables' owner, in the caller's
transaction, and add notices for both sides. They raise ValidationError (400) on the field that is wrong, and
Conflict (409, `code: last_manager`) for what would leave a clinic without a manager.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.shortcuts import get_object_or_404
from django.utils import timezone
from rest_framework.exceptions import ErrorDetail, ValidationError

from accounts.delegations.models import DelegateRole, Delegation
from accounts.delegations.named_users import as_named_user
from accounts.delegations.notices import notify
from accounts.identity import check_unchanged
from accounts.models import User
from healthcare.api.fields import DateTimeField
from healthcare.api.integrity_errors import broken_rule
from healthcare.rls.context import without_role

FIRST_YEAR_TOO_LATE = 9000  # the admin cannot show the last years that Python has in every time zone
INVALID_EXPIRY = f"Write a time in the future, before the year {FIRST_YEAR_TOO_LATE}, or null for no end."


@contextmanager
def as_table_owner() -> Iterator[None]:
    """Write in a savepoint, with the rights of the tables' owner. Raises the API's error for a violated constraint."""
    with without_role():
        try:
            with transaction.atomic():
                yield
        except IntegrityError as error:
            raise broken_rule(error) or error from error


def found_clinic(name: str, username: str, manager: User) -> User:
    """Create a clinic, an account that nobody logs in to, with its first manager.

    Raises AuthenticationFailed (401) when the manager was deactivated or got another password since they were read. The
    row lock makes a deactivation at this very moment wait, and find that the clinic needs its manager.
    """
    with as_table_owner():
        check_unchanged(manager)
        clinic = User(name=name, username=username, email=None, is_clinic=True)
        clinic.set_unusable_password()
        clinic.save()
        Delegation.objects.create(owner=clinic, delegate=manager, role=DelegateRole.MANAGE)
    return clinic


def rename_clinic(clinic: User, name: str) -> None:
    with as_table_owner():
        User.objects.filter(pk=clinic.pk).update(name=name)
    clinic.name = name


def give_delegation(
    owner: User, delegate: User, role: str, by: User | None, *, note: str = "", expires_at: datetime | None = None
) -> Delegation:
    """Create a delegation. An expired one of the two is revoked first; a living one is an error, `unique`."""
    if owner == delegate:
        raise field_error("delegate", "Name another user: nobody needs a delegation for their own records.")
    if delegate.is_clinic:
        raise field_error("delegate", "Name a person: nobody logs in to a clinic, so it cannot act for another owner.")
    check_expiry(expires_at)
    with as_table_owner():
        Delegation.objects.filter(owner=owner, delegate=delegate).end_expired()
        delegation = Delegation.objects.create(
            owner=owner, delegate=delegate, role=role, note=note, expires_at=expires_at
        )
        notify_of_delegation(delegation, "delegation_given", by)
    return delegation


def change_delegation(delegation: Delegation, by: User | None, **fields: Any) -> Delegation:
    """Change `role`, `expires_at` or `note` of a living delegation; returns it as it is then."""
    check_expiry(fields.get("expires_at"))
    with as_table_owner():
        delegation = lock_delegation(delegation)
        changed = [name for name, value in fields.items() if getattr(delegation, name) != value]
        for name in changed:
            setattr(delegation, name, fields[name])
        if changed:
            delegation.save(update_fields=changed)
            notify_of_delegation(delegation, "delegation_changed", by)
    return delegation


def revoke_delegation(delegation: Delegation, by: User | None) -> None:
    """End a living delegation."""
    with as_table_owner():
        delegation = lock_delegation(delegation)
        delegation.revoked_at = timezone.now()
        delegation.save(update_fields=["revoked_at"])
        notify_of_delegation(delegation, "delegation_ended", by)


def lock_delegation(delegation: Delegation) -> Delegation:
    """The delegation as it is now, its row locked, read without the role of the API. Raises Http404 if it has ended."""
    living = Delegation.objects.living().select_related("owner", "delegate")
    return get_object_or_404(living.select_for_update(no_key=True, of=("self",)), pk=delegation.pk)


def notify_of_delegation(delegation: Delegation, kind: str, by: User | None) -> None:
    """Add notices for owner and delegate, without the one who has done it."""
    about = {
        "id": delegation.pk,
        "owner": as_named_user(delegation.owner),
        "delegate": as_named_user(delegation.delegate),
        "role": delegation.role,
        "expires_at": delegation.expires_at and DateTimeField().to_representation(delegation.expires_at),
    }
    notify([delegation.owner, delegation.delegate], kind, by, about)


def check_expiry(expires_at: datetime | None) -> None:
    if not is_valid_expiry(expires_at):
        raise field_error("expires_at", INVALID_EXPIRY)


def is_valid_expiry(expires_at: datetime | None) -> bool:
    """Whether something may end then; None is no end."""
    return expires_at is None or (timezone.now() < expires_at and expires_at.year < FIRST_YEAR_TOO_LATE)


def field_error(field: str, detail: str) -> ValidationError:
    return ValidationError({field: [ErrorDetail(detail, "invalid")]})
