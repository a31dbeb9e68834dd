"""What a personal access token may do: see `accounts.personal_tokens`.

A view that authenticates a token calls `check_token`. A token of the scope `read` writes nothing. No token uses an
action that writes unless its view sets `writable_by_tokens`, so a new view about accounts is closed to them.
"""

from typing import Any

from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import SAFE_METHODS

from healthcare.api.acting_for import required_role

WRITE = "write"  # the scope of the tokens that may write; the other one is `read`


class NotByToken(PermissionDenied):
    default_detail = "A personal access token may not do this; log in, and send the `access` token of the login."
    members = {"code": "not_by_token"}


class InsufficientScope(PermissionDenied):
    """RFC 6750 section 3.1."""

    default_detail = "This token may only read; send one with the scope `write`."
    members = {"code": "insufficient_scope"}
    auth_header = 'Bearer realm="api", error="insufficient_scope", scope="write"'


def check_token(view: Any, method: str | None, scope: str) -> None:
    """Raises NotByToken or InsufficientScope (403) unless a token of this scope may use the view's action.

    A method for which a viewset has no action is answered 405; of a view that knows no actions each method is one.
    """
    action = getattr(view, "action", method)
    if method in SAFE_METHODS or action is None:
        return
    if not getattr(view, "writable_by_tokens", False):
        raise NotByToken
    if scope != WRITE and required_role(view, method, action) != "read":
        raise InsufficientScope
