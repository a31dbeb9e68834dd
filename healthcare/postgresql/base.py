"""Django's PostgreSQL backend, whose sessions have limits while a web request uses them."""

import contextvars
import threading
from collections.abc import Callable
from typing import Any

import psycopg2
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.postgresql import base
from django.utils.functional import cached_property

from healthcare.postgresql.client import DatabaseClient
from healthcare.postgresql.session import Limits, Session, SessionCursor, set_timeouts
from healthcare.postgresql.watchdog import watchdog

MAX_OPENING = 32  # sessions of a process, those included that nobody waits for any more
CONNECTION_SECONDS = 10.0  # to open a session in a request, including name resolution and all hosts of DATABASE_URL


class DatabaseWrapper(base.DatabaseWrapper):
    client_class = DatabaseClient
    limits: Limits | None = None  # of the sessions; None outside of web requests

    def get_connection_params(self) -> dict[str, Any]:
        return {**super().get_connection_params(), "connection_factory": Session, "cursor_factory": SessionCursor}

    def open_session(self, parameters: dict[str, Any]) -> Any:
        """Open a session, however long it takes."""
        try:
            return super().get_new_connection(parameters)
        except psycopg2.ProgrammingError as error:  # an option that libpq does not know
            raise psycopg2.OperationalError(str(error)) from error

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        limits = self.limits
        if limits is None:
            return self.open_session(conn_params)
        if limits.exceeded:
            raise psycopg2.OperationalError("the server did not answer earlier in this request")
        limits.exceeded = True  # a request waits for a session once
        parameters = share_among_hosts(conn_params, limits.connection)
        session = open_within(limits.connection, lambda: self.open_session(parameters))
        limits.exceeded = False
        session.limits = limits
        watchdog.watch(session)
        return session

    def close_if_unusable_or_obsolete(self) -> None:
        """Called by Django before and after each request."""
        session = self.connection
        if session is not None and session.is_spoiled and not self.in_atomic_block:
            self.close()
        super().close_if_unusable_or_obsolete()

    def begin_request(self) -> None:
        """Limit the sessions, close one that cannot write, and take one whose socket is alive for healthy.

        The latter stands in place of Django's SELECT 1.
        """
        session = self.connection
        if session is not None and session.is_read_only and not self.in_atomic_block:
            self.close()
        self.request_limits.exceeded = False
        self.set_limits(self.request_limits)
        if self.connection is not None and self.connection.is_alive:
            self.health_check_done = True

    def set_limits(self, limits: Limits | None) -> None:
        """Limit the sessions from now on, or no longer."""
        self.limits = limits
        session = self.connection
        if session is not None:
            session.limits = limits
            if limits and not session.is_watched:
                watchdog.watch(session)

    @cached_property
    def request_limits(self) -> Limits:
        timeouts = set_timeouts(settings.API_STATEMENT_TIMEOUT, settings.API_LOCK_TIMEOUT, settings.API_IDLE_TIMEOUT)
        return Limits(timeouts, settings.API_ANSWER_TIMEOUT, CONNECTION_SECONDS)


def share_among_hosts(parameters: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The parameters with a timeout for each of several hosts, so that a silent one leaves time for the others."""
    hosts = str(parameters.get("host") or parameters.get("hostaddr") or "").split(",")
    if len(hosts) == 1:
        return parameters
    share = max(1, int(seconds / len(hosts)))
    given = int(parameters.get("connect_timeout") or 0)
    return {**parameters, "connect_timeout": min(given, share) if given > 0 else share}


_opening = threading.BoundedSemaphore(MAX_OPENING)


def open_within(seconds: float, open_session: Callable[[], Any]) -> Any:
    """Open a session in another thread, since libpq resolves names without a timeout and tries each host in turn.

    Raises `psycopg2.OperationalError` if it takes too long, or if MAX_OPENING threads open sessions already. A thread
    for which nobody waits any more closes its session.
    """
    if not _opening.acquire(blocking=False):
        raise psycopg2.OperationalError("too many sessions are being opened")
    opening = Opening(open_session)
    context = contextvars.copy_context()
    try:
        threading.Thread(target=context.run, args=[opening.run], name="database connection", daemon=True).start()
    except RuntimeError as error:  # the process can start no thread at the moment
        _opening.release()
        raise psycopg2.OperationalError("no thread can be started to open a session") from error
    return opening.result(seconds)


class Opening:
    """A session that a thread opens and another one waits for."""

    def __init__(self, open_session: Callable[[], Any]) -> None:
        self.open_session = open_session
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.abandoned = False
        self.session: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.session = self.open_session()
        except BaseException as error:  # for the thread that waits
            self.error = error
        with self.lock:
            if self.abandoned and self.session is not None:
                self.session.close()
            self.ended.set()
        _opening.release()

    def result(self, seconds: float) -> Any:
        self.ended.wait(seconds)
        with self.lock:
            if not self.ended.is_set():
                self.abandoned = True
                raise psycopg2.OperationalError("no session could be opened in time")
        if self.error is not None:
            raise self.error
        return self.session


def begin_request(**_: object) -> None:
    """Prepare this thread's connection for a request. Connected to `request_started`, after Django's own receivers."""
    connections[DEFAULT_DB_ALIAS].begin_request()  # type: ignore[attr-defined]


def end_request(**_: object) -> None:
    """Let what runs in this thread after a request, such as a test, wait as long as it takes."""
    connections[DEFAULT_DB_ALIAS].set_limits(None)  # type: ignore[attr-defined]
