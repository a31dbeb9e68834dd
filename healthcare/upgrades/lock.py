"""One `migrate` at a time for each database, whichever host it runs on."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.core.management.base import CommandError
from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

MIGRATION_LOCK_KEY = 8_128_446_005  # of PostgreSQL's advisory locks: any number that nothing else uses
LOCK_POLL_SECONDS, REPORT_SECONDS = 0.5, 10.0
# An open transaction that waits for its owner must not be ended by a timeout of the server. Keepalives end it within a
# minute when its host has died, so that the next `migrate` can start.
BEGIN = """
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL tcp_keepalives_idle = 30; SET LOCAL tcp_keepalives_interval = 10; SET LOCAL tcp_keepalives_count = 3;
SELECT set_config(name, '0', true) FROM pg_settings WHERE name = 'transaction_timeout';
"""


class MigrationLock:
    """An advisory lock of a transaction that stays open, on a connection of its own.

    A lock of the session would be lost behind a pooler in transaction mode. The open transaction has no snapshot
    between its statements, so CREATE INDEX CONCURRENTLY does not wait for it.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection: Any = connection.copy()

    def acquire(self) -> bool:
        """Whether the lock was free. It is polled: a statement that waits for it has a snapshot, for which
        CREATE INDEX CONCURRENTLY of the other `migrate` would wait in turn."""
        self.connection.set_autocommit(False)
        with self.connection.cursor() as cursor:
            cursor.execute(BEGIN)
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [MIGRATION_LOCK_KEY])
            acquired = bool(cursor.fetchone()[0])
        if not acquired:
            self.connection.rollback()
        return acquired

    def verify(self) -> None:
        """Raises CommandError if the connection, and with it the lock, was lost."""
        try:
            with self.connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except Error as error:
            raise CommandError(
                "The connection that holds the lock of `migrate` was lost. Run `migrate` again; it continues."
            ) from error

    def release(self) -> None:
        with suppress(Error):
            self.connection.close()


@contextmanager
def migration_lock(connection: BaseDatabaseWrapper, report: Callable[[str], None]) -> Iterator[MigrationLock]:
    """Wait until no other `migrate` works on this database, and report the wait every 10 seconds."""
    lock, reported = MigrationLock(connection), float("-inf")
    try:
        while not lock.acquire():
            if time.monotonic() - reported >= REPORT_SECONDS:
                report("Another process migrates this database. Waiting until it has finished…")
                reported = time.monotonic()
            time.sleep(LOCK_POLL_SECONDS)
        yield lock
    finally:
        lock.release()
