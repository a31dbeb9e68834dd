"""Entering the database as a caller: for the rest of the transaction, as the restricted role."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction
from django.http import HttpRequest
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from healthcare.model_fields import one_line
from healthcare.rls import ROLE

LONGEST_REASON = 200  # characters

# Local to the transaction, so that nothing stays on a pooled connection, PgBouncer's transaction pooling included.
# The timeouts hold here alone: a migration may take its time. The metadata is what history's triggers keep of a change.
SETTINGS = """set_config('app.user_id', {caller}, true),
    set_config('statement_timeout', '10s', true), set_config('lock_timeout', '2s', true),
    set_config('pghistory.context_metadata', {metadata}, true)"""
ENTER = f"{SETTINGS}, set_config('role', '{ROLE}', true)"
# For statements that are planned once for everybody. An owner has few rows or a million: what reads all of theirs to
# find some is wrong for one of them. What is left follows an index in the order of the page.
PLANNED_ONCE = ", ".join(
    f"set_config('{setting}', '{value}', true)"
    for setting, value in [
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_bitmapscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("enable_material", "off"),
        ("enable_sort", "off"),
    ]
)
# Apart from the settings where these are a prepared statement: one that changes the role is planned each time.
TAKE_ROLE = f"SET LOCAL role {ROLE}"


@dataclass(frozen=True)
class Entry:
    """The statement by which a request enters the database, before `TAKE_ROLE`, and as whom; nobody is None."""

    sql: str
    parameters: list[Any]
    caller: int | None


def leave() -> None:
    """Work as the database's owner again, for what a caller may cause and not do: counting failed attempts, say."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('role', 'none', true)")


def enter(user_id: int | None, request: HttpRequest | Request | None = None) -> None:
    """Work as this user until the transaction ends; as nobody, who owns no rows, with None."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {ENTER.format(caller='%s', metadata='%s')}",
            ["" if user_id is None else str(user_id), metadata(user_id, request)],
        )


@contextmanager
def entered(user_id: int | None, request: HttpRequest | Request | None = None) -> Iterator[None]:
    """A transaction as this user, in a view that has none around it."""
    with transaction.atomic():
        enter(user_id, request)
        yield


def metadata(user_id: int | None, request: HttpRequest | Request | None) -> str:
    """What history keeps of a request, as JSON: `actor`, `request_id`, and `reason` when X-Change-Reason gives one.

    Raises ValidationError (400) for a reason that is not one visible line of at most 200 characters in UTF-8.
    """
    said = {"actor": user_id, "request_id": getattr(request, "request_id", "")}
    reason = request.META.get("HTTP_X_CHANGE_REASON") if request else None
    return json.dumps(said if reason is None else said | {"reason": read_reason(reason)})


def read_reason(header: str) -> str:
    try:
        reason = header.encode("latin-1").decode("utf-8")  # WSGI hands bytes over as Latin-1 (PEP 3333)
    except UnicodeError:
        reason = ""
    if not one_line(reason) or len(reason) > LONGEST_REASON:
        message = f"Write one line of visible text, at most {LONGEST_REASON} characters, in UTF-8."
        raise ValidationError({"X-Change-Reason": [message]})
    return reason
