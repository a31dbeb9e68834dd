"""Cache of answers that every caller may read, in this process, until their table changes.

A trigger gives the table a new random version when a change commits (`TableVersion`). Every request reads the version
from PostgreSQL, so that a cached answer is never older than the request.
"""

import datetime
from dataclasses import dataclass
from threading import Lock
from typing import Any

from healthcare.fastpath.execution import Statement

MAXIMUM_SIZE = 16 * 2**20  # bytes of bodies and keys
# Readers must not wait long for a lock on the table of versions.
SET_VERSION_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '100ms'"
SELECT_VERSION = """SELECT current_setting('app.user_id', true),
    (SELECT version::text FROM fastpath_tableversion WHERE "table" = %s)"""
# Reads the version before the rows: a change in between leaves an outdated version on the cached answer, so it is not
# used.
STORE_VERSION = """SELECT set_config('fastpath.table_version', coalesce(
    (SELECT version::text FROM fastpath_tableversion WHERE "table" = %s), ''), true)"""


@dataclass(frozen=True)
class CachedAnswer:
    """The version of the table it was read at, the local date then, the body, its own headers, and the parsed request,
    to read it anew. An answer may hold what changes with the date, such as years of experience."""

    version: str
    day: datetime.date
    content: bytes
    headers: dict[str, str]
    parsed_request: Any


class PublicCache:
    """Answers by scheme, host, path and query string. A full cache is emptied."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.clear()

    def clear(self) -> None:
        self.answers: dict[Any, CachedAnswer] = {}
        self.size = 0

    def get(self, key: Any) -> CachedAnswer | None:
        return self.answers.get(key)

    def put(self, key: Any, answer: CachedAnswer) -> None:
        size = len(answer.content) + len(repr(key))
        with self.lock:
            if self.size + size > MAXIMUM_SIZE:
                self.clear()
            if size <= MAXIMUM_SIZE:
                self.size += size
                self.answers[key] = answer


answers = PublicCache()


def version_statements(table: str) -> list[Statement]:
    """Statements whose last one selects the session's user and the table's version, NULL if it has none."""
    return [Statement(SET_VERSION_LOCK_TIMEOUT), Statement(SELECT_VERSION, [table], plannable=True)]


def store_version(table: str) -> list[Statement]:
    """Statements that store the version in a setting, which the next statement reads."""
    return [Statement(SET_VERSION_LOCK_TIMEOUT), Statement(STORE_VERSION, [table], plannable=True)]
