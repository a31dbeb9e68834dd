"""What anybody may read, kept ready in this process until the table changes.

Each request asks PostgreSQL for the table's version, which the change of a row and its commit renew together: an answer
is never older than the moment it was asked for.
"""

from collections.abc import Callable
from typing import Any

from django.core.handlers.wsgi import WSGIRequest
from django.db import Error, connection

from healthcare.fastpath.answers import Answer
from healthcare.fastpath.prepared import failed, prepared, ran
from healthcare.fastpath.routes import Place

VERSION = 'SELECT version::text FROM fastpath_tableversion WHERE "table" = %s'
# Who has the version's table to itself must not keep everybody waiting.
BRIEFLY = "SET LOCAL lock_timeout = '100ms'"
MOST = 16 * 2**20  # bytes of the answers that are kept

_kept: dict[Any, tuple[str, Answer]] = {}
_size = 0


def is_shared(place: Place, environ: dict[str, Any]) -> bool:
    """Whether the answer is everybody's. Within a transaction what it has changed shows, and is not committed."""
    shared = place.route.viewset.versioned and "HTTP_AUTHORIZATION" not in environ
    return bool(shared and environ["REQUEST_METHOD"] == "GET" and not connection.in_atomic_block)


def answer(place: Place, request: WSGIRequest, make: Callable[[], Answer | None]) -> Answer | None:
    """The answer that is kept, or else what `make` gives."""
    key = request.scheme, request.get_host(), request.path, request.META["QUERY_STRING"]
    version = version_of(place.route.viewset.queryset.model._meta.db_table)
    before, kept = _kept.get(key, (None, None))
    if kept and before == version:
        return kept
    made = make()  # of now, or of a later version: then it is made anew next time
    if made and made.status == 200 and version:
        keep(key, version, made)
    return made


def keep(key: Any, version: str, made: Answer) -> None:
    global _size
    if _size > MOST:
        forget()
    _size += len(made.content) + len(repr(key))
    _kept[key] = version, made


def forget() -> None:
    global _size
    _kept.clear()
    _size = 0


def version_of(table: str) -> str | None:
    """None where the table keeps none, or the database is away."""
    session = connection.connection
    connection.health_check_done = True  # type: ignore[attr-defined]  # dead: whoever is asked next finds out
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"{BRIEFLY};\n{prepared(session, VERSION)}", [table])
            row = cursor.fetchone()
    except Error as error:
        failed(session, error)
        connection.health_check_done = False  # type: ignore[attr-defined]
        return None
    ran(session, VERSION)
    return row[0] if row else None
