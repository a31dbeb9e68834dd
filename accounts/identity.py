"""How a caller who is logged in proves once more who they are, before a change of the account."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request

from accounts.hashing_limit import hashing_slot
from accounts.limits import SessionAttempt
from healthcare.rls.context import leave


def prove_identity(request: Request, current_password: str | None) -> None:
    """Check the caller's current password, in a view that is not one transaction: a wrong one is counted.

    Raises ValidationError (400) if it is wrong or missing, RateLimited (429) after repeated failures, and Busy (503).
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
