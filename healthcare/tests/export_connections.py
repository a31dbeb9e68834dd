"""Exports inside the transaction of a test: nothing else can see what the test has written.

A test that commits (`django_db(transaction=True)`) and a live server get connections of their own, as in production.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from healthcare.exports.snapshot import OwnConnection, Snapshot
from healthcare.rls.context import leave


def is_within_test() -> bool:
    return any(block._from_testcase for block in connection.atomic_blocks)  # type: ignore[attr-defined]


def install() -> None:
    """Let exports of tests whose transaction is rolled back use its connection."""
    open_own, use_own, close_own, isolate = OwnConnection.open, OwnConnection.use, OwnConnection.close, Snapshot.isolate

    def open_connection(self: Any, idle: str) -> None:
        self.borrowed = is_within_test()
        if not self.borrowed:
            open_own(self, idle)

    @contextmanager
    def use(self: Any) -> Iterator[None]:
        if self.borrowed:
            if not isinstance(self, Snapshot):
                leave()  # a connection of its own would have no role yet
            yield
        else:
            with use_own(self):
                yield

    def close(self: Any) -> None:
        if not self.borrowed:
            close_own(self)

    def isolate_snapshot(self: Any) -> None:
        if self.borrowed:
            leave()
        else:
            isolate(self)

    OwnConnection.open, OwnConnection.use, OwnConnection.close = open_connection, use, close  # type: ignore[method-assign]
    Snapshot.isolate = isolate_snapshot  # type: ignore[method-assign]
