"""Which errors mean that the database is unavailable, by SQLSTATE: the request was right, and may succeed later."""

import psycopg2
from django.db import Error, InterfaceError, OperationalError
from psycopg2.errors import DiskFull, LockNotAvailable, OutOfMemory, QueryCanceled

# The server answers, but neither this session nor this server can do the work at the moment.
READ_ONLY_TRANSACTION = "25006"  # on a standby, or with default_transaction_read_only
TERMINATED_TRANSACTION = frozenset({"25P03", "25P04"})  # idle_in_transaction_session_timeout, transaction_timeout
# After these the session is closed, so that the next request opens one: by then perhaps to another server.
SPOILED_CLASSES = (
    "08",  # connection exception
    "53",  # insufficient resources: disk full, out of memory, too many connections
    "57P",  # the server shuts down, has crashed or is starting; the database was dropped
    "58",  # system error: input or output
)
SPOILED_STATES = frozenset({
    READ_ONLY_TRANSACTION,
    *TERMINATED_TRANSACTION,
    "40001",  # a standby cancels a query that conflicts with its recovery
    "55000",  # a standby refuses a lock
})  # fmt: skip


class ServerHungError(psycopg2.OperationalError):
    """The server has not answered in time, so the session was cut off."""


def spoils_session(sqlstate: str | None) -> bool:
    """Whether a session must not be used for another request after such an error."""
    return sqlstate is not None and (sqlstate in SPOILED_STATES or sqlstate.startswith(SPOILED_CLASSES))


def sqlstate_of(error: BaseException) -> str | None:
    return getattr(error.__cause__, "pgcode", None)


def is_unavailable(error: BaseException) -> bool:
    """Whether an error of Django's database layer means that the database is unavailable, so that the answer is 503."""
    if isinstance(error, OperationalError | InterfaceError):
        return True
    return isinstance(error, Error) and spoils_session(sqlstate_of(error))


def waiting_is_futile(error: Error) -> bool:
    """Whether the same statement would fail again now: it has waited long enough, or this server cannot do it."""
    cause = error.__cause__
    if isinstance(cause, LockNotAvailable | QueryCanceled | ServerHungError):
        return True
    return sqlstate_of(error) == READ_ONLY_TRANSACTION or isinstance(cause, DiskFull | OutOfMemory)
