"""Answers that are sent while they are generated: those with the attribute `streams`, such as exports.

Any other streaming response is joined before it is sent, so that an exception in it becomes a 500. An export is too
large for this, and takes longer than one of the few threads and database connections of a worker may be occupied. So it
is sent in a thread of its own, which must not use Django's connection.

granian's own streams take everything at once, however slowly the client reads, and do not say whether they have ended
or their connection broke. So the thread writes to the client's socket itself, while granian waits for an answer, which
it gets when the connection is closed. The connection closes at the end of each stream:

| what ends it | what the client sees |
|---|---|
| the whole answer has been sent | the last chunk, or the end of the connection for HTTP/1.0 |
| an exception before the first part | a problem with the status 500, or 503 if the database is away |
| a later exception, a client that is too slow, the stop of the worker | a reset, and no last chunk |
"""

import fcntl
import logging
import socket
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from django.db import connections

from healthcare.api.problems import problem_without_request
from healthcare.operations.health import is_fault_of_database
from healthcare.operations.metrics import request_answered, request_left_thread
from healthcare.operations.request_ids import REQUEST_ID_KEY
from healthcare.server.connections import find_connection
from healthcare.server.environ import Environ

MAX_STREAMS = 2  # of a worker, each with a thread and a database session of its own
LONGEST_STALL = 30.0  # seconds that a client may take nothing, and that it may be late in all
SLOWEST_DOWNLOAD_RATE = 16 * 1024  # bytes a second that a client has to take on average, beyond these seconds
LARGEST_WRITE = 64 * 1024  # bytes that a client has LONGEST_STALL to take
STOP_CHECK_INTERVAL = 1.0  # seconds between two checks whether the worker stops
CLOSING_SECONDS = 5.0  # for a client to close its end after it has everything
EARLIER_ANSWER_SECONDS = 5.0  # for a client to take what was sent before on its connection

logger = logging.getLogger("healthcare.server")
error_log = logging.getLogger("healthcare.errors")


class StreamBrokenError(Exception):
    """Why a stream ends without an error of its own. The text goes to the log."""


class Streams:
    """The streams of a worker."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: set[Stream] = set()
        self.stopping = False

    def start(
        self, protocol: Any, environ: Environ, response: Any, status: int, headers: list[tuple[str, str]]
    ) -> bool:
        """Send the response from another thread, and close it there. False if the worker has too many streams."""
        with self.lock:
            if self.stopping or len(self.running) >= MAX_STREAMS:
                return False
            stream = Stream(protocol, environ, response, status, headers, self.finished)
            self.running.add(stream)
        request_left_thread(environ)
        try:
            threading.Thread(target=stream.run, name="stream", daemon=True).start()
        except RuntimeError:  # the process can start no thread at the moment
            self.finished(stream)
            return False
        return True

    def finished(self, stream: "Stream") -> None:
        with self.lock:
            self.running.discard(stream)

    def stop(self) -> None:
        """Break all streams, and start no more. A handler of a signal may call it."""
        self.stopping = True
        for stream in [*self.running]:
            stream.stop()

    def wait(self, seconds: float) -> None:
        """Let the streams that `stop` has broken finish."""
        deadline = time.monotonic() + seconds
        while self.running and time.monotonic() < deadline:
            time.sleep(0.05)


class Stream:
    def __init__(
        self,
        protocol: Any,
        environ: Environ,
        response: Any,
        status: int,
        headers: list[tuple[str, str]],
        finished: Callable[["Stream"], None],
    ) -> None:
        self.protocol, self.environ, self.response = protocol, environ, response
        self.status, self.headers, self.finished = status, headers, finished
        self.is_chunked = environ["SERVER_PROTOCOL"] == "HTTP/1.1"
        self.connection: socket.socket | None = None
        self.stopping = False
        self.sent = 0  # bytes
        self.waited = 0.0  # seconds for the client
        self.disconnected = threading.Event()  # the client has closed the connection, or granian has

    def run(self) -> None:
        """Send the answer. Raises nothing."""
        is_complete = False
        try:
            parts = iter(self.response)
            first = next(parts, b"")
        except BaseException as error:  # also a SystemExit: it would end this thread alone
            self.log_error()
            self.fail(503 if is_fault_of_database(error) else 500)
            return
        try:
            self.protocol.client_disconnect().add_done_callback(lambda _: self.disconnected.set())
            self.connection = self.take_connection()
            self.send(self.head())
            self.send_part(first)
            for part in parts:
                self.send_part(part)
            is_complete = True
        except (StreamBrokenError, OSError) as broken:
            self.log_break(broken)
        except BaseException:
            self.log_error()
        self.close()
        try:
            self.end(is_complete)
        except (StreamBrokenError, OSError) as broken:
            self.log_break(broken)
        finally:
            if self.connection:
                self.connection.close()
            self.protocol.response_empty(self.status, [])  # granian drops it: the connection is closed

    def fail(self, status: int) -> None:
        """Answer by a problem, since nothing has been sent yet."""
        fields, body = problem_without_request(self.environ, status)
        self.response.status_code = status  # for its line in the access log
        self.close()
        self.protocol.response_bytes(status, [*fields.items(), ("Connection", "close")], body)

    def close(self) -> None:
        """Close the response, which writes its line in the access log, and count it, before its client sees the end."""
        try:
            self.response.close()
            connections.close_all()  # of this thread, in case that the response has used one all the same
        except BaseException:
            self.log_error()
        request_answered(self.environ, self.response.status_code)
        self.finished(self)

    def log_break(self, broken: Exception) -> None:
        reason = str(broken) if isinstance(broken, StreamBrokenError) else "its client has closed the connection"
        logger.warning("a stream ended early: %s", reason, extra={"fields": self.log_fields()})

    def log_error(self) -> None:
        error_log.error("unhandled in a stream", exc_info=True, extra={"fields": self.log_fields()})

    def log_fields(self) -> dict[str, Any]:
        return {"request_id": self.environ.get(REQUEST_ID_KEY), "bytes": self.sent}

    def take_connection(self) -> socket.socket:
        environ = self.environ
        found = find_connection(environ["REMOTE_ADDR"], int(environ["REMOTE_PORT"]), int(environ["SERVER_PORT"]))
        if found is None:
            raise StreamBrokenError("its client has closed the connection")
        found.settimeout(STOP_CHECK_INTERVAL)
        # A client that sends several requests at once may get the end of an earlier answer from granian just now.
        deadline = time.monotonic() + EARLIER_ANSWER_SECONDS
        while unacknowledged(found):
            if time.monotonic() > deadline:
                found.close()
                raise StreamBrokenError("its client does not take an earlier answer")
            time.sleep(0.01)
        return found

    def head(self) -> bytes:
        version = "HTTP/1.1" if self.is_chunked else "HTTP/1.0"
        framing = [("Transfer-Encoding", "chunked")] if self.is_chunked else []
        fields = [(name, value) for name, value in self.headers if name.lower() not in {"content-length", "connection"}]
        fields += [*framing, ("Connection", "close"), ("Date", formatdate(usegmt=True)), ("Server", "granian")]
        lines = [f"{version} {self.status} {HTTPStatus(self.status).phrase}", *(f"{n}: {v}" for n, v in fields), "", ""]
        return "\r\n".join(lines).encode("latin-1")

    def send_part(self, part: bytes) -> None:
        if not part:
            return  # an empty chunk would be the last one
        self.send(b"%x\r\n%b\r\n" % (len(part), part) if self.is_chunked else part)

    def send(self, data: bytes) -> None:
        """Send the bytes, each as soon as the client takes it. Raises OSError or StreamBrokenError."""
        rest = memoryview(data)
        stalled = 0.0
        while rest:
            if self.stopping:
                raise StreamBrokenError("the worker stops")
            if self.disconnected.is_set():
                raise StreamBrokenError("its client has closed the connection")
            if stalled > LONGEST_STALL or self.waited > LONGEST_STALL + self.sent / SLOWEST_DOWNLOAD_RATE:
                raise StreamBrokenError("its client reads too slowly")
            started = time.monotonic()
            try:
                number = self.connection.send(rest[:LARGEST_WRITE])  # type: ignore[union-attr]
            except TimeoutError:
                number = 0
            waited = time.monotonic() - started
            self.waited += waited
            stalled = 0.0 if number else stalled + waited
            self.sent += number
            rest = rest[number:]

    def end(self, is_complete: bool) -> None:
        """Close the connection: after the last chunk, or by a reset, which no client takes for the end."""
        if not self.connection:
            return
        if is_complete and not self.stopping:
            if self.is_chunked:
                self.send(b"0\r\n\r\n")
            self.connection.shutdown(socket.SHUT_WR)
            self.disconnected.wait(CLOSING_SECONDS)  # a client that still gets data could lose it at a close
        else:
            self.reset_when_closed()
        if not self.disconnected.is_set():
            self.connection.shutdown(socket.SHUT_RD)  # granian takes it for the client's end, and closes its descriptor
            if not self.disconnected.wait(STOP_CHECK_INTERVAL):
                self.connection.shutdown(socket.SHUT_RDWR)

    def reset_when_closed(self) -> None:
        if self.connection:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def stop(self) -> None:
        self.stopping = True
        with suppress(OSError):  # it has just been closed
            self.reset_when_closed()
            if self.connection:
                self.connection.shutdown(socket.SHUT_RD)


def unacknowledged(connection: socket.socket) -> bool:
    """Whether the kernel still holds bytes that the client has not acknowledged."""
    request = termios.TIOCOUTQ if sys.platform == "linux" else getattr(termios, "TIOCOUTQ", 0)
    return bool(request and int.from_bytes(fcntl.ioctl(connection, request, b"\0" * 4), sys.byteorder))
