"""psycopg2's connection and cursor, with limits on how long the server may take to answer.

PostgreSQL enforces timeouts on statements and on waits for locks. They are set by `SET LOCAL` in the message of the
first statement of each transaction, or of each statement outside one: that costs no round trip, cannot be forgotten by
new code, and ends with the transaction, as PgBouncer in transaction mode requires.

A server that is frozen enforces nothing, and psycopg2 would wait for it forever. Each message therefore stores the time
at which it was sent, and `watchdog` shuts down the socket of a session that has waited too long.
"""

import select
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2 import extensions
from psycopg2.sql import Composable

from healthcare.postgresql.errors import ServerHungError, spoils_session


@dataclass
class Limits:
    """How long the sessions of one `DatabaseWrapper` may wait.

    `timeouts` is the SQL that sets PostgreSQL's own timeouts for a transaction. `answer` is how many seconds the answer
    to one message may take, `connection` how many the opening of a session.
    """

    timeouts: str
    answer: float
    connection: float
    exceeded: bool = False  # since the request began: it fails now instead of waiting once more


def set_timeouts(statement: str, lock: str, idle: str) -> str:
    """SQL that sets PostgreSQL's timeouts for the rest of a transaction."""
    return (
        f"SET LOCAL statement_timeout TO '{statement}'; SET LOCAL lock_timeout TO '{lock}'; "
        f"SET LOCAL idle_in_transaction_session_timeout TO '{idle}'; "
    )


# For a transaction that may take as long as it needs, whatever the defaults of the login are.
REMOVE_TIMEOUTS = """
SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN (
    'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')
"""


class Session(extensions.connection):
    """A connection to PostgreSQL. Without `limits` it waits as long as it takes, as commands and migrations do."""

    limits: Limits | None = None
    sent_at = 0.0  # time.monotonic() while a message waits for its answer
    is_watched = False  # by the watchdog
    cut_off = False  # by the watchdog
    is_spoiled = False  # it must not serve another request

    @property
    def is_read_only(self) -> bool:
        """Whether PostgreSQL has reported with its last answer that this session cannot write, which costs no query.

        A session that was opened while the database was read-only may stay so when new ones can write again. A closed
        one cannot write either.
        """
        if self.closed:
            return True
        status = self.get_parameter_status
        return status("default_transaction_read_only") == "on" or status("in_hot_standby") == "on"

    @property
    def is_alive(self) -> bool:
        """Whether the server has not closed the connection: then its socket would be readable without a statement."""
        if self.closed:
            return False
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return not poll.poll(0)

    def commit(self) -> None:
        self.wait_for(super().commit)

    def rollback(self) -> None:
        self.wait_for(super().rollback)

    def wait_for(self, send: Any, *arguments: Any) -> None:
        """Send a message, and wait no longer than the limit. Raises `psycopg2.Error`."""
        self.sent_at = time.monotonic()
        try:
            send(*arguments)
        except psycopg2.Error as error:
            if spoils_session(error.pgcode):
                self.is_spoiled = True
            if self.cut_off and self.limits:
                self.limits.exceeded = True
                raise ServerHungError("the server does not answer") from error
            raise
        finally:
            self.sent_at = 0.0


class SessionCursor(extensions.cursor):
    """A cursor that sets the timeouts of its session's limits with the first statement of a transaction."""

    connection: Session
    sets_timeouts = False  # whether the statements set PostgreSQL's timeouts themselves

    def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002  (the name in psycopg2)
        session = self.connection
        limits = session.limits
        if limits is None:
            return super().execute(query, vars)
        if session.status == extensions.STATUS_READY and not self.sets_timeouts:
            query = prepend(limits.timeouts, query, self)
        return session.wait_for(super().execute, query, vars)

    def executemany(self, query: Any, vars_list: Iterable[Any]) -> None:
        for values in vars_list:
            self.execute(query, values)

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        """Within a transaction, whose first statement has set the timeouts."""
        if self.connection.limits is None:
            return super().copy_expert(sql, file, size)
        return self.connection.wait_for(super().copy_expert, sql, file, size)

    @property
    def query(self) -> bytes | None:
        """The last statement, as psycopg2 has sent it but for the timeouts: Django logs it."""
        sent: bytes | None = extensions.cursor.query.__get__(self)
        limits = self.connection.limits
        return sent.removeprefix(limits.timeouts.encode()) if sent and limits else sent


def prepend(timeouts: str, query: Any, cursor: extensions.cursor) -> str | bytes:
    if isinstance(query, Composable):
        query = query.as_string(cursor)
    return timeouts.encode() + query if isinstance(query, bytes) else timeouts + str(query)
