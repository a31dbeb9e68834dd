"""Connections of an export's own: one for the snapshot that it reads, one for what it records meanwhile.

A transaction that lasts as long as a download must not occupy the connection of a thread that answers requests, and the
rows of the access log must be committed while it is open. All settings are local to transactions, as PgBouncer in
transaction mode requires.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connection, connections, transaction

from healthcare.api.rate_limits import RateLimited, RatePolicy
from healthcare.postgresql.base import CONNECTION_SECONDS
from healthcare.postgresql.session import Limits, set_timeouts

EXPORT_RETRY_AFTER = 10  # seconds


class ExportRunning(RateLimited):
    """Another export of this caller is running."""

    members = {"detail": "Another export of yours is running; wait until it ends, or break it off."}

    def __init__(self) -> None:
        super().__init__(RatePolicy("exports", 1, EXPORT_RETRY_AFTER), EXPORT_RETRY_AFTER)


class OwnConnection:
    """A connection to the default database beside the ones of Django's threads. Any thread may use it, one at a time.

    `use()` makes it the default connection of the thread for a block, so that querysets, serializers and
    `django.db.connection` work on it.
    """

    open_connections = 0  # of this process; for tests

    def __init__(self, idle: str) -> None:
        """`idle` is how long a transaction may wait for its next statement, as PostgreSQL writes it."""
        self.open(idle)

    def open(self, idle: str) -> None:
        wrapper: Any = connections.create_connection(DEFAULT_DB_ALIAS)
        self.wrapper = wrapper
        self.wrapper.inc_thread_sharing()
        timeouts = set_timeouts(settings.API_STATEMENT_TIMEOUT, settings.API_LOCK_TIMEOUT, idle)
        self.wrapper.set_limits(Limits(timeouts, settings.API_ANSWER_TIMEOUT, CONNECTION_SECONDS))
        self.is_open = True
        OwnConnection.open_connections += 1

    @contextmanager
    def use(self) -> Iterator[None]:
        threads_own = next(iter(connections.all(initialized_only=True)), None)
        connections[DEFAULT_DB_ALIAS] = self.wrapper
        try:
            yield
        finally:
            if threads_own is None:
                del connections[DEFAULT_DB_ALIAS]
            else:
                connections[DEFAULT_DB_ALIAS] = threads_own

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            OwnConnection.open_connections -= 1
            with suppress(DatabaseError):
                self.wrapper.close()


class Snapshot(OwnConnection):
    """A read-only transaction on a connection of its own, all of whose queries see the same state of the database."""

    def begin(self, lock: str, enter: Callable[[], None]) -> None:
        """Begin it, take the advisory lock of this name, and let `enter` set the caller.

        Raises ExportRunning (429) if another transaction holds the lock.
        """
        with self.use():
            self.isolate()
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [lock])
                if not cursor.fetchone()[0]:
                    raise ExportRunning
            enter()

    def isolate(self) -> None:
        transaction.atomic().__enter__()  # `close` ends it
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
