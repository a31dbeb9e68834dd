"""Finds the other user whom a request names by username or e-mail, and counts unknown names."""

from typing import Any

from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request

from accounts.limits import counted_names
from accounts.models import User


def look_up_user(request: Request, text: str, field: str) -> User:
    """The active user with this username or e-mail, which the request has sent in `field`; it may be a clinic.

    Raises CountedError (400) on the field for an unknown one, and RateLimited (429) for any after 20 unknown ones
    within an hour. Call it in a view with ATOMIC_REQUESTS, before the request writes anything.
    """
    caller: Any = request.user
    with counted_names(request, caller):
        user = User.objects.find_by_identifier(text)
        if user is None or not user.is_active:
            unknown = ErrorDetail("There is no such user; write a username or an e-mail.", "does_not_exist")
            raise ValidationError({field: [unknown]})
    return user
