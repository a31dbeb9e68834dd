"""Sends statements to a replica. Where that fails, this process does without replicas for some seconds."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, Error, connections

from healthcare.operations.metrics import count_replica_read
from healthcare.postgresql.errors import is_unavailable, sqlstate_of

logger = logging.getLogger("healthcare.replicas")
ALIAS = "replica"
PAUSE_AFTER_FAILURE = 10.0  # seconds without replicas; then one request tries again
# Seconds that a request waits for a replica, few since it may have to wait for the primary afterwards.
ANSWER, CONNECTION = 5.0, 2.0

# A statement was cancelled, because it took too long or conflicts with replay. The next one may succeed.
STATES_OF_STATEMENTS = frozenset({"57014", "40001"})

Result = TypeVar("Result")


class Availability:
    """Whether this process reads on replicas at the moment."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.tried_at: float | None = None  # time.monotonic() of the last attempt since one has failed

    def may_try(self) -> bool:
        if self.tried_at is None:
            return True
        with self.lock:
            if self.tried_at is not None and time.monotonic() - self.tried_at < PAUSE_AFTER_FAILURE:
                return False
            self.tried_at = time.monotonic()
            return True

    def failed(self, error: Exception) -> None:
        with self.lock:
            first, self.tried_at = self.tried_at is None, time.monotonic()
        if first:
            logger.warning("replicas are not read: %s", " ".join(str(error).split()))

    def clear_failure(self) -> None:
        if self.tried_at is not None:
            self.tried_at = None
            logger.warning("replicas are read again")


availability = Availability()


def is_usable() -> bool:
    """Whether there are replicas, and this process reads on them at the moment."""
    return ALIAS in connections.settings and availability.may_try()


def read(send: Callable[[str], Result]) -> Result | None:
    """What `send(alias)` gets from a replica; None if that fails, for whatever reason."""
    database = connections[ALIAS] = own_replica()
    try:
        prepare(database)
        result = send(ALIAS)
    except Error as error:
        database.close()
        if is_unavailable(error) and sqlstate_of(error) not in STATES_OF_STATEMENTS:
            availability.failed(error)
        count_replica_read("failed")
        return None
    finally:
        del connections[ALIAS]  # another thread may use it next
    availability.clear_failure()
    return result


def own_replica() -> Any:
    """The connection to a replica that goes with the connection to the primary: few threads of the server use one of
    those at a time, and they take turns."""
    primary: Any = connections[DEFAULT_DB_ALIAS]
    if getattr(primary, "replica", None) is None:
        primary.replica = connections.create_connection(ALIAS)
        primary.replica.inc_thread_sharing()  # used by one thread at a time
    return primary.replica


def prepare(database: Any) -> None:
    """Limit the session, and close one that has been lost or whose server is no longer a standby."""
    database.close_if_unusable_or_obsolete()
    session = database.connection
    if session is not None and (not session.is_alive or session.get_parameter_status("in_hot_standby") == "off"):
        database.close()
    database.set_limits(replace(database.request_limits, answer=ANSWER, connection=CONNECTION))
    database.ensure_connection()
    database.health_check_done = True
