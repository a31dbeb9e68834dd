"""Founding clinics, and giving, changing and ending delegations: the rules, for the API, the admin and commands alike.

Callers have checked that `by` may do it. The functions write with the rights of the tables' owner, in the caller's
transaction, and tell the users whom it concerns. They raise ValidationError (400) on the field that is wrong, and
Conflict (409, `code: last_manager`) for what would leave a clinic without a manager.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.shortcuts import get_object_or_404
from django.utils import timezone
from rest_framework.exceptions import ErrorDetail, ValidationError

from accounts.delegations.models import DelegateRole, Delegation
from accounts.delegations.named_users import as_named
from accounts.delegations.notices import notify
from accounts.models import User
from healthcare.api.fields import DateTimeField
from healthcare.api.integrity_errors import broken_rule
from healthcare.rls.context import left

EXPIRY_PASSED = "Write a time in the future, or null for no end."


@contextmanager
def written_by_owner() -> Iterator[None]:
    """Write in a savepoint, with the rights of the tables' owner; a violated constraint is the API's error."""
    with left():
        try:
            with transaction.atomic():
                yield
        except IntegrityError as error:
            raise broken_rule(error) or error from error


def found_clinic(name: str, username: str, manager: User) -> User:
    """A new clinic, which is an account that nobody logs in to, with its first manager."""
    with written_by_owner():
        clinic = User(name=name, username=username, email=None, is_clinic=True)
        clinic.set_unusable_password()
        clinic.save()
        Delegation.objects.create(owner=clinic, delegate=manager, role=DelegateRole.MANAGE)
    return clinic


def rename_clinic(clinic: User, name: str) -> None:
    with written_by_owner():
        User.objects.filter(pk=clinic.pk).update(name=name)
    clinic.name = name


def give(
    owner: User, delegate: User, role: str, by: User | None, *, note: str = "", expires_at: datetime | None = None
) -> Delegation:
    """A new delegation. One that has expired between the two is ended first; a living one is an error, `unique`."""
    if owner == delegate:
        raise refusal("delegate", "Name another user: nobody needs a delegation for their own records.")
    if delegate.is_clinic:
        raise refusal("delegate", "Name a person: nobody logs in to a clinic, so it cannot act for another owner.")
    check_expiry(expires_at)
    with written_by_owner():
        expired = Delegation.objects.filter(owner=owner, delegate=delegate, revoked_at=None, expires_at__lte=Now())
        expired.update(revoked_at=F("expires_at"))
        delegation = Delegation.objects.create(
            owner=owner, delegate=delegate, role=role, note=note, expires_at=expires_at
        )
        tell("delegation_given", delegation, by)
    return delegation


def change(delegation: Delegation, by: User | None, **fields: Any) -> Delegation:
    """Change `role`, `expires_at` or `note` of a living delegation; returns it as it is then."""
    if fields.get("expires_at") != delegation.expires_at:
        check_expiry(fields.get("expires_at"))
    with written_by_owner():
        delegation = lock(delegation)
        changed = [name for name, value in fields.items() if getattr(delegation, name) != value]
        for name in changed:
            setattr(delegation, name, fields[name])
        if changed:
            delegation.save(update_fields=changed)
            tell("delegation_changed", delegation, by)
    return delegation


def revoke(delegation: Delegation, by: User | None) -> None:
    """End a living delegation."""
    with written_by_owner():
        delegation = lock(delegation)
        delegation.revoked_at = timezone.now()
        delegation.save(update_fields=["revoked_at"])
        tell("delegation_ended", delegation, by)


def lock(delegation: Delegation) -> Delegation:
    """The delegation as it is now, its row locked, read without the role of the API. Raises Http404 if it has ended."""
    living = Delegation.objects.living().select_related("owner", "delegate")
    return get_object_or_404(living.select_for_update(no_key=True, of=("self",)), pk=delegation.pk)


def tell(kind: str, delegation: Delegation, by: User | None) -> None:
    """Notices to both sides, but for who has done it."""
    about = {
        "id": delegation.pk,
        "owner": as_named(delegation.owner),
        "delegate": as_named(delegation.delegate),
        "role": delegation.role,
        "expires_at": delegation.expires_at and DateTimeField().to_representation(delegation.expires_at),
    }
    notify([delegation.owner, delegation.delegate], kind, by, about)


def check_expiry(expires_at: datetime | None) -> None:
    if has_passed(expires_at):
        raise refusal("expires_at", EXPIRY_PASSED)


def has_passed(expires_at: datetime | None) -> bool:
    return expires_at is not None and expires_at <= timezone.now()


def refusal(field: str, detail: str) -> ValidationError:
    return ValidationError({field: [ErrorDetail(detail, "invalid")]})
