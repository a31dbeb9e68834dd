"""The SQLSTATE of every error that the database reports, taken at one place: where Django converts the driver's errors.

An error without a SQLSTATE is about the connection, so it has a code of class 08 (ISO 9075-2), as JDBC gives it.
"""

import threading
from typing import Any

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import DatabaseErrorWrapper
from django.utils.functional import cached_property
from psycopg2 import DatabaseError as DriverDatabaseError
from psycopg2 import Error as DriverError
from psycopg2 import InterfaceError as DriverInterfaceError
from psycopg2 import OperationalError as DriverOperationalError

from healthcare.operations.metrics import count_database_error

CANNOT_CONNECT, NOT_CONNECTED, CONNECTION_LOST = "08001", "08003", "08006"
# These follow from an earlier error, which explains the request's failure.
CONSEQUENCES = frozenset({"25P02", NOT_CONNECTED, CONNECTION_LOST})


class Errors(threading.local):
    """Of the request that this thread answers."""

    sqlstate: str | None = None


errors = Errors()


def forget_sqlstate() -> None:
    """Call it at the start of a request."""
    errors.sqlstate = None


def last_sqlstate() -> str | None:
    """The SQLSTATE of the last error in this request, and not of those that only follow from it; None without one."""
    return errors.sqlstate


class NotingErrorWrapper(DatabaseErrorWrapper):
    wrapper: BaseDatabaseWrapper

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        if exc_type is None:
            return
        sqlstate = sqlstate_of_driver_error(exc_value, connected=self.wrapper.connection is not None)
        if sqlstate:
            note_sqlstate(sqlstate)
        super().__exit__(exc_type, exc_value, traceback)


def sqlstate_of_driver_error(error: BaseException, *, connected: bool) -> str | None:
    """None for an exception that is no error of the database, or that was seen before Django converted it."""
    if isinstance(error, DriverError):
        if error.pgcode:
            return error.pgcode
        if isinstance(error, DriverInterfaceError):
            return NOT_CONNECTED
        # psycopg2 raises a plain DatabaseError for an answer that the connection's end has cut off.
        if isinstance(error, DriverOperationalError) or type(error) is DriverDatabaseError:
            return CONNECTION_LOST if connected else CANNOT_CONNECT
        return None  # of psycopg2 itself, such as a value that it cannot convert
    unseen = isinstance(error, OperationalError) and not isinstance(error.__cause__, DriverError)
    return CANNOT_CONNECT if unseen and not connected else None  # the embedded server cannot be started


def note_sqlstate(sqlstate: str) -> None:
    count_database_error(sqlstate)
    if not (errors.sqlstate and sqlstate in CONSEQUENCES):
        errors.sqlstate = sqlstate


def install() -> None:
    """Let every connection of Django use the wrapper. Call it before there are any."""
    noting: Any = cached_property(NotingErrorWrapper)
    noting.__set_name__(BaseDatabaseWrapper, "wrap_database_errors")
    BaseDatabaseWrapper.wrap_database_errors = noting  # type: ignore[method-assign]
