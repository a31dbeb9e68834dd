"""Statements that PostgreSQL plans once a database session (SQL PREPARE).

A prepared statement belongs to its session. A pooler that shares sessions between transactions, or a `DISCARD ALL`,
loses it. The lost statement is then sent unprepared, in the same request, and prepared again by the next one. When that
happens often, this process stops preparing for a while and logs a warning. `DB_PREPARED_STATEMENTS=off` never prepares.
"""

import hashlib
import logging
import re
import time
from collections import deque
from functools import lru_cache
from itertools import count
from threading import Lock
from typing import Any

from django.conf import settings
from django.db import Error
from psycopg2.errors import DuplicatePreparedStatement, FeatureNotSupported, InvalidSqlStatementName

logger = logging.getLogger("healthcare.fastpath")

MAXIMUM_STATEMENTS = 200  # a session
LOSSES, PERIOD = 5, 60.0  # so many losses within so many seconds suspend preparing
FIRST_SUSPENSION, LONGEST_SUSPENSION = 60.0, 1800.0  # seconds


class Losses:
    """Counts lost statements of this process, and suspends preparing while they are frequent."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.reset()

    def reset(self) -> None:
        self.times: deque[float] = deque(maxlen=LOSSES)
        self.suspended_until, self.suspension = 0.0, FIRST_SUSPENSION

    def add(self) -> None:
        now = time.monotonic()
        with self.lock:
            self.times.append(now)
            if len(self.times) < LOSSES or now - self.times[0] > PERIOD:
                return
            self.times.clear()
            self.suspended_until = now + self.suspension
            suspension, self.suspension = self.suspension, min(2 * self.suspension, LONGEST_SUSPENSION)
        logger.warning(
            "prepared statements were lost %d times within %d s; none are prepared for %d s. Behind a pooler in "
            "transaction mode set DB_PREPARED_STATEMENTS=off.",
            LOSSES, PERIOD, suspension,
        )  # fmt: skip

    def suspended(self) -> bool:
        return time.monotonic() < self.suspended_until


losses = Losses()


def is_preparing() -> bool:
    return settings.DB_PREPARED_STATEMENTS and not losses.suspended()


def prepared_names(connection: Any) -> set[str]:
    """The names of the statements that the session of a connection has prepared. Each thread has its own connection."""
    session, names = getattr(connection, "prepared_by_fast_path", (None, set()))
    if session is not connection.connection:
        names = set()
        connection.prepared_by_fast_path = connection.connection, names
    return names


def is_lost(error: Error) -> bool:
    """Whether the error means that a prepared statement is missing or outdated; it was not executed."""
    cause = error.__cause__
    if isinstance(cause, FeatureNotSupported):
        return "cached plan must not change result type" in (cause.diag.message_primary or "")
    return isinstance(cause, InvalidSqlStatementName | DuplicatePreparedStatement)


@lru_cache(maxsize=1024)
def prepared_forms(sql: str) -> tuple[str, str, str]:
    """The name of a statement with `%s` parameters, the SQL that prepares it, and the SQL that executes it."""
    name = f"fastpath_{hashlib.sha256(sql.encode()).hexdigest()[:16]}"
    numbers = count(1)
    numbered = re.sub("%[s%]", lambda match: f"${next(numbers)}" if match[0] == "%s" else "%%", sql)
    places = ", ".join(["%s"] * (next(numbers) - 1))
    return name, f"PREPARE {name} AS {numbered};\n", f"EXECUTE {name}" + (f" ({places})" if places else "")
