"""Checks before a change of the account: the caller proves once more who they are, and the account is as the request
found it."""

from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts.hashing_limit import hashing_slot
from accounts.limits import SessionAttempt
from accounts.models import User
from accounts.second_factor.rules import CodeCheck, check_counted_code
from healthcare.rls.context import leave


def prove_identity(request: Request, current_password: str | None) -> None:
    """Check the caller's current password, in a view that is not one transaction: a wrong one is counted.

    The request goes on without the role of the API. Raises ValidationError (400) if the password is wrong or missing,
    RateLimited (429) after repeated failures, and Busy (503).
    """
    user: Any = request.user
    session: Any = request.auth
    if current_password is None:
        required = serializers.ErrorDetail("Send your current password to make this change.", "required")
        raise serializers.ValidationError({"current_password": [required]})
    leave()
    with hashing_slot():
        attempt = SessionAttempt.begin(request, session.pk, user.pk)
        if not user.check_password(current_password):
            attempt.fail()
            raise serializers.ValidationError({"current_password": ["This is not the current password."]})
    attempt.succeed()


def prove_identity_with_factor(request: Request, current_password: str | None, otp: str | None) -> None:
    """Check the caller's current password and, if they have a second factor, a code of it, which is then used up.

    Raises what `prove_identity` does, and ValidationError (400) on `otp` if the code is wrong, which is counted, or
    missing, which is not.
    """
    user: Any = request.user
    prove_identity(request, current_password)
    check = check_counted_code(request, user, otp)
    if check.passed:
        return
    if check is CodeCheck.MISSING:
        message = "Send a code of your authenticator app, or a recovery code, to make this change."
    else:
        message = "This code is wrong or was used before; send the one that your app shows now, or a recovery code."
    raise serializers.ValidationError({"otp": [serializers.ErrorDetail(message, "otp_required")]})


def check_unchanged(user: User) -> None:
    """Lock the user's row until the transaction ends. Raises AuthenticationFailed (401) if the user was deactivated or
    got another password since the request was authenticated, which has ended its session."""
    if not User.objects.get_queryset().lock_if_unchanged(user).exists():
        raise AuthenticationFailed("The session has ended; log in again.")
