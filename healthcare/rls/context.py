"""Sets the restricted role, the caller's id and the owner's for the rest of a transaction, and resets the role."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from django.conf import settings
from django.db import connection, transaction
from django.http import HttpRequest
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from healthcare.characters import visible_text
from healthcare.model_fields import is_visible_line
from healthcare.ownership import RecordOwner
from healthcare.rls import ROLE

LONGEST_REASON = 200  # characters

# Local to the transaction, so that they do not outlive it on a pooled connection (PgBouncer in transaction mode).
# The timeouts apply to requests only, not to migrations. The history triggers store the metadata with each change.
SETTINGS = f"""set_config('app.user_id', {{caller}}, true),
    set_config('app.owner_id', {{owner}}, true),
    set_config('app.owner_role', {{role}}, true),
    set_config('statement_timeout', '{settings.API_STATEMENT_TIMEOUT}', true),
    set_config('lock_timeout', '{settings.API_LOCK_TIMEOUT}', true),
    set_config('pghistory.context_metadata', {{metadata}}, true)"""
ENTER = f"{SETTINGS}, set_config('role', '{ROLE}', true)"
# Settings for statements with one generic plan for all callers. A plan that reads all rows of an owner is wrong for an
# owner with a million rows. With these off, plans scan an index in the order of the page.
PLANNER_SETTINGS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_material": "off",
    "enable_sort": "off",
    # Before PostgreSQL 18 a plan that is ruled out costs so much that the server compiles it, for seconds.
    "jit": "off",
}
PLANNED_ONCE = ", ".join(f"set_config('{setting}', '{value}', true)" for setting, value in PLANNER_SETTINGS.items())
# Undoes them, for a statement that is planned for its values.
PLANNED_FOR_VALUES = "; ".join(f"SET LOCAL {setting} TO DEFAULT" for setting in PLANNER_SETTINGS)
# Where a caller is not authenticated, since a later statement does that before anything is answered: on a replica, and
# where hits are looked up after the first message of a search. See `claims`.
CLAIM = "SELECT " + SETTINGS.format(caller="%s", owner="%s", role="%s", metadata="''")
CLAIM_PLANNED_ONCE = f"{CLAIM}, {PLANNED_ONCE}"
# Separate from the settings where those are a prepared statement: PostgreSQL plans a statement again when the role has
# changed.
TAKE_ROLE = f"SET LOCAL role {ROLE}"
RESET_ROLE = "SET LOCAL role none"


@dataclass(frozen=True)
class Entry:
    """The statement that authenticates a request and applies `SETTINGS`, to be followed by `TAKE_ROLE`. `caller` is the
    user's id, None for an anonymous one; `owner` is whose records the request works on, which is the caller unless
    they act for another owner."""

    sql: str
    parameters: list[Any]
    caller: int | None
    owner: RecordOwner


def claims(caller: int | None, owner: RecordOwner) -> list[str]:
    """The parameters of CLAIM. A delegate's role is the least, since it is only used to read."""
    user = "" if caller is None else str(caller)
    return [user, str(owner.pk), "read"] if owner.role else [user, "", ""]


def leave() -> None:
    """Reset the role, for writes that a request causes but its caller may not do, such as counting failed attempts."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('role', 'none', true)")


@contextmanager
def without_role() -> Iterator[None]:
    """Reset the role for a block, which then has the rights of the tables' owner, and set it again afterwards.

    An exception leaves the role reset: the request then rolls back, or commits what it has counted.
    """
    if not connection.in_atomic_block:  # the role is set for a transaction only
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('role'), set_config('role', 'none', true)")
        role = cursor.fetchone()[0]
        yield
        cursor.execute("SELECT set_config('role', %s, true)", [role])


def enter(user_id: int | None, request: HttpRequest | Request | None = None, owner: RecordOwner | None = None) -> None:
    """Set the role and this user's id until the transaction ends; None is an anonymous caller, who owns no rows.

    `owner` is whose records the user works on; by default their own.
    """
    acting_for = owner if owner and owner.role else RecordOwner(None)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {ENTER.format(caller='%s', owner='%s', role='%s', metadata='%s')}",
            [
                "" if user_id is None else str(user_id),
                "" if acting_for.pk is None else str(acting_for.pk),
                acting_for.role or "",
                metadata(user_id, request),
            ],
        )


@contextmanager
def entered(
    user_id: int | None, request: HttpRequest | Request | None = None, owner: RecordOwner | None = None
) -> Iterator[None]:
    """Run a transaction as this user, in a view without ATOMIC_REQUESTS."""
    with transaction.atomic():
        enter(user_id, request, owner)
        yield


@contextmanager
def with_caller_id(user_id: int) -> Iterator[None]:
    """Set this user's id alone, without the role, for functions of the database that take it from there, such as the
    search within an owner's words. The block must not fail: its transaction is then rolled back, the id included."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('app.user_id', %s, true)", [str(user_id)])
        yield
        cursor.execute("SELECT set_config('app.user_id', '', true)")


def metadata(user_id: int | None, request: HttpRequest | Request | None) -> str:
    """The context that history stores, as JSON: `actor`, `request_id`, and `reason` if X-Change-Reason gives one.

    Raises ValidationError (400) for a reason that is not one visible line of at most 200 characters in UTF-8.
    """
    stored = {"actor": user_id, "request_id": getattr(request, "request_id", "")}
    reason = request.META.get("HTTP_X_CHANGE_REASON") if request else None
    return json.dumps(stored if reason is None else stored | {"reason": read_reason(reason)})


def percent_decoded(text: str) -> bytes:
    """Raises UnicodeError for a percent sign without two hexadecimal digits after it."""
    if re.search("%(?![0-9A-Fa-f]{2})", text):
        raise UnicodeError
    return unquote_to_bytes(text)


def read_reason(header: str) -> str:
    """The reason in the header: plain text, or UTF-8 in percent-encoding after `UTF-8''` (RFC 8187)."""
    try:
        encoded = header[:7].upper() == "UTF-8''"
        # WSGI decodes headers as Latin-1 (PEP 3333).
        sent = percent_decoded(header[7:]) if encoded else header.encode("latin-1")
        reason = visible_text(sent.decode("utf-8"))
    except UnicodeError:
        reason = ""
    if not is_visible_line(reason) or len(reason) > LONGEST_REASON:
        message = (
            f"Write one line of visible text, at most {LONGEST_REASON} characters; write letters outside ASCII as in "
            "RFC 8187, UTF-8''gr%C3%B6%C3%9Fer for example."
        )
        raise ValidationError({"X-Change-Reason": [message]})
    return reason
