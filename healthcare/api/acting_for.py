"""The `X-Acting-For` header, by which a delegate works on the records of another owner.

The authentication statement of the request checks the delegation (`accounts.authentication`). A view accepts the header
if `acts_for_owner` is true, and each of its actions needs a role.
"""

from typing import Any

from django.http import HttpRequest
from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import ErrorDetail, PermissionDenied, ValidationError
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

from healthcare.ownership import RecordOwner

ACTING_FOR_HEADER = "X-Acting-For"
SELF = "self"  # the value that works on the caller's own records; nobody can have it as a username
ROLES = ("read", "write", "manage")  # each includes the ones before it
OWN_RECORDS = ""  # the name of the owner of a request that acts for nobody
UNKNOWN_OWNER = "0"  # the id of no user
TOO_MANY_DIGITS = 19  # of an id: it may be too large for a bigint
# These are answered before the authentication has found the owner.
STATUSES_WITHOUT_OWNER = {"401", "429"}
ACTING_FOR_PARAMETER = OpenApiParameter(
    ACTING_FOR_HEADER,
    {"type": "string", "minLength": 1},
    OpenApiParameter.HEADER,
    description="Works on the records of another owner, who has given you a delegation: their username, or their id in "
    "digits. `self` works on your own records where the login acts for an owner. 403 with the code `not_a_delegate` "
    "without a delegation, and `role_too_low` where its role does not suffice.",
)
RESPONSE_HEADER = {
    "description": "The username of the owner for whom the request acted; absent where it acted for the caller.",
    "schema": {"type": "string"},
}


class NotADelegate(PermissionDenied):
    """One answer for an owner who does not exist, who has not delegated, or whose delegation has ended."""

    default_detail = (
        "You may not act for this owner. Ask them for a delegation, or work on your own records: send "
        "`X-Acting-For: self`, or log in or create the token without `acting_for`."
    )
    members = {"code": "not_a_delegate"}


class RoleTooLow(PermissionDenied):
    default_detail = "Your role with this owner does not allow it; ask a manager of the owner for a higher one."
    members = {"code": "role_too_low"}


def owner_in_header(request: HttpRequest | Request) -> str | None:
    """The owner in the header, as `parse_owner_name` gives it; None without the header.

    Raises ValidationError (400) for an empty header.
    """
    header = request.META.get("HTTP_X_ACTING_FOR")
    if header is None:
        return None
    if not header.strip():
        raise ValidationError(
            {ACTING_FOR_HEADER: [ErrorDetail("Name the owner by username or id, or leave the header out.", "blank")]}
        )
    return parse_owner_name(header)


def parse_owner_name(text: str) -> str:
    """The owner in a header or a login: an id in digits or a username in lower case; OWN_RECORDS for `self`."""
    name = text.strip().lower()
    if not name.isprintable():
        return UNKNOWN_OWNER  # PostgreSQL takes no NUL in a text
    return OWN_RECORDS if name == SELF else name


def as_id(name: str) -> int | None:
    """The id in a name that consists of digits, 0 if it is too large for one; None for a username."""
    if not (name.isascii() and name.isdigit()):
        return None
    return int(name) if len(name) < TOO_MANY_DIGITS else 0


def owner_of(request: HttpRequest | Request) -> RecordOwner:
    """The owner whose records the request works on, as its authentication has found."""
    owner: RecordOwner = getattr(request, "record_owner", None) or RecordOwner(request.user.pk)
    return owner


def role_suffices(role: str | None, needed: str) -> bool:
    """Whether a role of a delegation, None for the owner, includes another."""
    return role is None or (role in ROLES and ROLES.index(role) >= ROLES.index(needed))


def check_role(view: Any, request: Request) -> None:
    """Raises RoleTooLow (403) unless the caller is the owner or has the role that the action needs."""
    if view.acts_for_owner and not role_suffices(
        owner_of(request).role, required_role(view, request.method, view.action)
    ):
        raise RoleTooLow


def required_role(view: Any, method: str | None, action: str | None) -> str:
    """The role that an action needs: `read` for safe methods, else that in `action_roles`, else `manage`.

    A method without an action needs `read`: it is answered 405.
    """
    default = "read" if method in SAFE_METHODS or action is None else "manage"
    role: str = getattr(view, "action_roles", {}).get(action or "", default)
    return role
