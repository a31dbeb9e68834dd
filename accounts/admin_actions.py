"""Deactivating users, which ends their sessions, reactivating them, removing their second factors, and revoking single
login sessions."""

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from accounts.admin_sessions import end_admin_sessions
from accounts.delegations.models import Delegation
from accounts.limits import user_key
from accounts.models import LoginSession, User
from accounts.second_factor.models import SecondFactor
from accounts.second_factor.rules import FACTOR_RESET, remove_factor
from healthcare.admin.actions import PreviewedAction, Refusals
from healthcare.admin.form_actions import FormAction, ReasonForm
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


class RemoveSecondFactor(FormAction):
    """For users who have lost their app and their recovery codes. The rule is that of `manage.py reset_otp`."""

    name = permission = "reset_second_factor"
    label = "Remove the second factor of selected users"
    verb, done = "remove the second factor of", "left without a second factor"
    explanation = (
        "Logins of these users ask for the password alone, and their recovery codes are worth nothing. First make sure "
        "that it is the user who asks for this, and not somebody who has the user's password. The user can set up "
        "another second factor, and gets an e-mail if this server sends any. Sessions and tokens stay."
    )
    form_class = ReasonForm
    maximum = 10
    on_change_page = True

    def is_offered_for(self, record: User) -> bool:
        return getattr(record, "second_factor", None) is not None  # read once, for the page's own field, too

    def links(self, model_admin: Any, record: User) -> list[tuple[str, str]]:
        return [(url, "Remove second factor") for url, _ in super().links(model_admin, record)]

    def refusals(self, model_admin: Any, request: HttpRequest, records: Sequence[User]) -> Refusals:
        enrolled = {*SecondFactor.objects.filter(pk__in=[user.pk for user in records]).values_list("pk", flat=True)}
        refused: Refusals = {}
        for user in records:
            if user.pk == request.user.pk:
                refused[user.pk] = "is your own account; use Second factor at the top of the page"
            elif not may_change_user(request, user):
                refused[user.pk] = "is a member of staff; ask a superuser"
            elif user.pk not in enrolled:
                refused[user.pk] = "has no second factor"
        return refused

    def perform(self, model_admin: Any, request: HttpRequest, records: Sequence[User]) -> str:
        reason = self.sent_form(request).cleaned_data["reason"]
        for user in records:
            remove_factor(request, user, FACTOR_RESET, by=user_key(request.user.pk or 0), reason=reason)
        return ""

    def log_message(self, request: HttpRequest) -> str:
        return f"{super().log_message(request)} Reason: {self.sent_form(request).cleaned_data['reason']}"


def describe_sessions(number: int, of: str) -> str:
    return f"{number} {'session' if number == 1 else 'sessions'} {of}"
