"""Deactivating users, which ends their sessions, reactivating them, and revoking single login sessions."""

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from accounts.admin_sessions import end_admin_sessions
from accounts.delegations.models import Delegation
from accounts.models import LoginSession, User
from healthcare.admin.actions import PreviewedAction, Refusals
from healthcare.admin.record_actions import EndOnce


def may_change_user(request: HttpRequest, user: User | None) -> bool:
    """Whether the requesting staff user may change this user: a superuser any user, others only non-staff users."""
    return user is None or bool(request.user.is_superuser) or not (user.is_staff or user.is_superuser)


class DeactivateUsers(PreviewedAction):
    name = permission = "deactivate"
    label = "Deactivate selected users"
    verb, done = "deactivate", "deactivated"
    explanation = (
        "They cannot log in any more. All their sessions end at once, in the API and in the admin. What they own "
        "stays. Delegations that they have given or received do not work meanwhile."
    )
    undone_by = "reactivate"
    on_change_page = True

    def is_offered_for(self, record: User) -> bool:
        return record.is_active

    def lock(self, model_admin: Any, request: HttpRequest, ids: Sequence[int]) -> list[User]:
        """Lock the row of the deactivating user too: of two superusers who deactivate each other at once, one is
        refused, so an active superuser remains."""
        rows = User.objects.filter(pk__in=[*ids, request.user.pk])
        locked = list(rows.order_by("pk").select_for_update(no_key=True))
        if not any(user.pk == request.user.pk and user.is_active for user in locked):
            raise PermissionDenied
        return [user for user in locked if user.pk in ids]

    def refusals(self, model_admin: Any, request: HttpRequest, records: Sequence[User]) -> Refusals:
        found = {user.pk: self.find_refusal(request, user) for user in records}
        possible = [key for key, reason in found.items() if not reason]
        needed = Delegation.objects.needed_by_clinics(possible).values_list("delegate", flat=True)
        found |= dict.fromkeys(needed, "is the last manager of a clinic; first make another user its manager")
        return {key: reason for key, reason in found.items() if reason}

    def find_refusal(self, request: HttpRequest, user: User) -> str:
        if not user.is_active:
            return "is already inactive"
        if user.pk == request.user.pk:
            return "is your own account; ask a colleague"
        if not may_change_user(request, user):
            return "is a member of staff; ask a superuser"
        return ""

    def perform(self, model_admin: Any, request: HttpRequest, records: Sequence[User]) -> str:
        ids = [user.pk for user in records]
        logins = LoginSession.objects.live().filter(user__in=ids).count()
        admin_logins = end_admin_sessions(ids)
        User.objects.filter(pk__in=ids).update(is_active=False)  # revokes the login sessions
        return f"{describe_sessions(logins, 'of the API')} and {describe_sessions(admin_logins, 'of the admin')} ended."


class ReactivateUsers(PreviewedAction):
    name = "reactivate"
    permission = "deactivate"
    label = "Reactivate selected users"
    verb, done = "reactivate", "reactivated"
    explanation = (
        "They can log in again with their password, and their delegations work again. The sessions that were ended "
        "stay ended."
    )
    undone_by = "deactivate"
    on_change_page = True

    def is_offered_for(self, record: User) -> bool:
        return not record.is_active

    def refusals(self, model_admin: Any, request: HttpRequest, records: Sequence[User]) -> Refusals:
        return {
            user.pk: "is already active" if user.is_active else "is a member of staff; ask a superuser"
            for user in records
            if user.is_active or not may_change_user(request, user)
        }

    def perform(self, model_admin: Any, request: HttpRequest, records: Sequence[User]) -> str:
        ids = [user.pk for user in records]
        end_admin_sessions(ids)  # of a login that the deactivation did not see
        User.objects.filter(pk__in=ids).update(is_active=True)
        return "Their sessions stay ended."


class RevokeSessions(EndOnce):
    name = "revoke"
    end_column, already = "revoked_at", "has already been revoked"
    permission = "change"
    label = "Revoke selected login sessions"
    verb, done = "revoke", "revoked"
    explanation = (
        "The next request with one of their tokens is refused (401). The user can log in again. Instead of a personal "
        "access token the user makes another one."
    )

    def perform(self, model_admin: Any, request: HttpRequest, records: Sequence[LoginSession]) -> str:
        LoginSession.objects.filter(pk__in=[session.pk for session in records]).revoke()
        return ""


def describe_sessions(number: int, of: str) -> str:
    return f"{number} {'session' if number == 1 else 'sessions'} {of}"
