"""Waits for a database that is not there yet, such as one that starts together with this server."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import OperationalError

from healthcare.embedded import probe
from healthcare.embedded.base import EmbeddedOperationalError

PAUSE, REPORT_PERIOD = 0.5, 5.0  # seconds
# Texts of libpq, which come in English from psycopg2's wheels.
NOT_THERE = re.compile(
    "refused|timed out|timeout expired|no session could be opened|could not translate host name|no such file"
    "|closed the connection unexpectedly|reset by peer|unreachable|no route to host|host is down"
    "|could not (receive data|send)|session is read-only|in hot standby mode",
    re.IGNORECASE,
)
# The texts of the server come in its own language, after a severity and two spaces.
SENT_BY_SERVER = re.compile(r"failed: \S+:  ")
SENT_BY_PGBOUNCER = re.compile("pgbouncer|server login|query_wait_timeout|client_login_timeout", re.IGNORECASE)
ATTEMPTED_PLACE = re.compile(
    r'connection to server (?:at "(?P<host>[^"]+)"(?: \((?P<address>[^)]+)\))?, port '
    r'|on socket "(?P<folder>.+)/\.s\.PGSQL\.)(?P<port>\d+)'
)
TEMPORARY_REFUSALS = {probe.CANNOT_CONNECT_NOW, "53300"}  # starting up, shutting down or recovering; too many clients


def wait_for_database(database: Any, seconds: float, report: Callable[[str], None]) -> None:
    """Connect. Retry for `seconds` as long as the only failure is that the database is not there yet.

    `report` gets a line every five seconds. Raises OperationalError, at once if waiting does not help.
    """
    deadline = time.monotonic() + seconds
    last_error = ""
    was_accepting = False
    with reporting(report, lambda: f"Waiting for PostgreSQL{last_error}…"):
        while True:
            try:
                database.ensure_connection()
                return
            except OperationalError as error:
                if time.monotonic() > deadline:
                    raise
                if not is_temporary(error):
                    # It may have begun to accept logins between the refusal and this question.
                    if was_accepting or isinstance(error, EmbeddedOperationalError):
                        raise
                    was_accepting = True
                    continue
                was_accepting = False
                last_error = f" ({reason(error)})"
            time.sleep(PAUSE)


@contextmanager
def reporting(report: Callable[[str], None], text: Callable[[], str]) -> Iterator[None]:
    """Report every five seconds until the block ends, whatever it waits for."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(REPORT_PERIOD):
            report(text())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def is_temporary(error: OperationalError) -> bool:
    """Whether the database may become reachable without anybody changing DATABASE_URL or the database."""
    if isinstance(error, EmbeddedOperationalError):
        return error.is_temporary
    text = last_attempt(error)
    if SENT_BY_SERVER.search(text):
        return bool(SENT_BY_PGBOUNCER.search(text)) or refusal(text) in TEMPORARY_REFUSALS
    return bool(NOT_THERE.search(text))


def refusal(attempt: str) -> str | None:
    """The SQLSTATE with which that server refuses every login; None if it does not, or cannot be asked."""
    place = ATTEMPTED_PLACE.match(attempt)
    if place is None:
        return None
    host, port = place["address"] or place["folder"] or place["host"], int(place["port"])
    try:
        with open_socket(host, port) as connection:
            return probe.read_refusal(connection)
    except OSError:
        return None


def open_socket(host: str, port: int) -> socket.socket:
    if not host.startswith("/"):
        return socket.create_connection((host, port), timeout=probe.TIMEOUT_SECONDS)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(probe.TIMEOUT_SECONDS)
    connection.connect(f"{host}/.s.PGSQL.{port}")
    return connection


def last_attempt(error: OperationalError) -> str:
    """What libpq says of the last address that it has tried. It tries no further one if a login is refused."""
    _, separator, last = str(error).rpartition("connection to server")
    return separator + last


def reason(error: OperationalError) -> str:
    """The cause in the first line of the last attempt, without the address."""
    line = last_attempt(error).strip().partition("\n")[0]
    return line.rpartition("failed: ")[2].strip().rstrip(".")
