"""One import of a kind at a time for each owner, so that two of the same file do not create everything twice."""

import dataclasses

from django.db import connection

from healthcare.api.exceptions import Conflict


def take_import_lock(kind: str, owner_id: int) -> None:
    """Take the advisory lock until the transaction ends. Raises Conflict (409) while another import has it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended('imports.' || %s, %s))", [kind, owner_id])
        if not cursor.fetchone()[0]:
            raise Conflict("Another import of these records is running; repeat this one later.", code="import_running")


def allow_long_statements(seconds: int) -> None:
    """Let each statement until the end of the transaction take this long: one of an import writes a whole batch."""
    limits = getattr(connection, "limits", None)  # those of a web request, which the next one sets again
    if limits is not None:
        connection.set_limits(dataclasses.replace(limits, answer=seconds + 2.0))  # type: ignore[attr-defined]
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{seconds}s"])
