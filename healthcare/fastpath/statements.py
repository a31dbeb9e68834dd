"""The one message of a request: it enters the database as the caller, and then reads or writes, and records that.

One simple query holds all its statements and is one transaction. Without a living session it enters as nobody, and what
follows gives nothing, not even what is public.
"""

from contextlib import nullcontext
from functools import lru_cache
from typing import Any

from django.db import Error, connection, transaction
from django.utils import timezone
from psycopg2.errors import LockNotAvailable, QueryCanceled

from healthcare.fastpath.compiled import CALLER_TEXT, KEY, NAMED, Compiled, Given
from healthcare.fastpath.declared import CALLER
from healthcare.fastpath.json_sql import TODAY
from healthcare.fastpath.prepared import failed, prepared, ran
from healthcare.rls import context
from healthcare.rls.context import Entry

Row = tuple[int, str]  # key and JSON


@lru_cache(maxsize=1024)
def reading(scope: str, recording: str | None, limit: int) -> str:
    """Of the rows within the limit, which are recorded, and the next one."""
    rows = "SELECT key, content FROM page WHERE %s = current_setting('app.user_id')"
    shown = recorded(f"page LIMIT {limit}", recording)
    return f"WITH page AS MATERIALIZED ({scope} LIMIT {limit + 1}){shown}\n{rows}"


@lru_cache(maxsize=256)
def writing(change: str, recording: str | None) -> str:
    return f"WITH written AS ({change}){recorded('written', recording)}\nSELECT key, content FROM written"


def recorded(rows: str, recording: str | None) -> str:
    return f",\nshown AS (SELECT noted FROM {rows}),\nrecorded AS ({recording})" if recording else ""  # noqa: S608


def filled(
    compiled: Compiled, entry: Entry, key: int, given: dict[str, Any] | None = None, named: int = 0
) -> list[Any]:
    """The parameters of a compiled statement, each with what it stands for in this request."""
    known = {
        CALLER: entry.caller, CALLER_TEXT: str(entry.caller or ""), KEY: key, NAMED: named,
        TODAY: timezone.localdate(),
    }  # fmt: skip
    return [
        given[one.name] if given and isinstance(one, Given) else known.get(one, one) if one.__hash__ else one
        for one in compiled.parameters
    ]


def ask(entry: Entry, statement: str, parameters: list[Any], *, preparing: bool) -> list[Row]:
    """What the statement gives. Raises the Error of a database that refuses it or is away."""
    session = connection.connection
    planned = [entry.sql, statement] if preparing else [entry.sql]
    first, *rest = (prepared(session, sql) for sql in planned)
    message = ";\n".join([first, context.TAKE_ROLE, *(rest or [statement])])
    connection.health_check_done = True  # type: ignore[attr-defined]  # dead: whoever is asked next finds out
    try:
        # Within a transaction a failure must not be the end of that.
        with transaction.atomic() if connection.in_atomic_block else nullcontext(), connection.cursor() as cursor:
            cursor.execute(message, [*entry.parameters, *parameters])
            rows: list[Row] = cursor.fetchall()
    except Error as error:
        failed(session, error)
        connection.health_check_done = False  # type: ignore[attr-defined]
        raise
    ran(session, *planned)
    return rows


def is_undone(error: Error) -> bool:
    """Whether PostgreSQL says that it has undone the transaction, and goes on."""
    return getattr(getattr(error.__cause__, "diag", None), "severity_nonlocalized", None) == "ERROR"


def has_waited(error: Error) -> bool:
    """Whether it is a lock or an end that was waited for, as long as one may."""
    return isinstance(error.__cause__, LockNotAvailable | QueryCanceled)
