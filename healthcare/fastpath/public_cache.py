"""Answers that every caller may read, kept in this process until their table changes.

A trigger gives the table a new random version as a change commits (`TableVersion`). Every request asks PostgreSQL for
the version, so that an answer is never older than the request.
"""

from dataclasses import dataclass
from threading import Lock
from typing import Any

from healthcare.fastpath.execution import Statement

MAXIMUM_SIZE = 16 * 2**20  # bytes of bodies and keys
# A lock on the table of versions must not keep readers waiting.
LOCK_TIMEOUT = "SET LOCAL lock_timeout = '100ms'"
VERSION = """SELECT current_setting('app.user_id', true),
    (SELECT version::text FROM fastpath_tableversion WHERE "table" = %s)"""
# Read before the rows: a change in between makes the cached answer out of date at once, never wrong.
REMEMBER_VERSION = """SELECT set_config('fastpath.table_version', coalesce(
    (SELECT version::text FROM fastpath_tableversion WHERE "table" = %s), ''), true)"""


@dataclass(frozen=True)
class CachedAnswer:
    version: str
    content: bytes
    headers: dict[str, str]


class PublicCache:
    """Answers by scheme, host, path and query string. Emptied when it is full."""

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
    """The user of the session and the version of a table, which is NULL when it has none."""
    return [Statement(LOCK_TIMEOUT), Statement(VERSION, [table], plannable=True)]


def remember_version(table: str) -> list[Statement]:
    """Statements that put the version where the statement after them reads it."""
    return [Statement(LOCK_TIMEOUT), Statement(REMEMBER_VERSION, [table], plannable=True)]
