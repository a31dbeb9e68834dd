"""Requests from granian to the WSGI application, each when its body is there and the queue lets it run."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from io import BytesIO
from typing import IO, Any

from django.conf import settings

from healthcare.api.health_checks import HEALTH_CHECKS, answer_health_check
from healthcare.api.problems import last_resort, problem_without_request
from healthcare.operations.access_log import LOGGED, QUEUE_US, write_access_line
from healthcare.operations.metrics import request_answered, request_arrived, request_left_queue
from healthcare.operations.request_ids import REQUEST_ID_KEY, assign_ids
from healthcare.operations.routes import paths_with, route_of_environ
from healthcare.server.environ import Environ, build_environ
from healthcare.server.file_bodies import FileBodies
from healthcare.server.queue import QueuedRequest, Refusal, RequestQueue
from healthcare.server.streams import Streams

MAX_WAITING_BODIES = 512  # of a worker; the oldest is refused for a newer one
MAX_WAITING_BYTES = 64 * 1024 * 1024
CLOSE = ("Connection", "close")
QUEUE_RETRY_AFTER = "1"  # seconds; the queue is empty again within one
STREAM_RETRY_AFTER = "5"  # seconds; a stream takes longer than other answers
FILE_RETRY_AFTER = "10"  # seconds; so does a file
TOO_MANY_FILES = "This server takes as many files as it can at once; try again soon."
TOO_MANY_STREAMS = "This server sends as many exports as it can at once; try again soon."
INCOMPLETE_BODY = "The body is shorter than its Content-Length; send all of it."

error_log = logging.getLogger("healthcare.errors")

Application = Callable[[Environ, Callable[..., None]], Iterable[bytes]]
Headers = list[tuple[str, str]]


class RequestHandler:
    """Receives the body of each request, and answers it by the application, in the threads of granian.

    A body is late after BODY_SECONDS, or earlier if more of them wait than the memory is for; that is a 408. A
    connection that ends within the body is a 400. What the queue refuses is a 503. The application sees none of these.
    """

    def __init__(self, application: Application) -> None:
        self.application = application
        self.base: Environ = {
            "SCRIPT_NAME": "",
            "SERVER_SOFTWARE": "granian",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            QUEUE_US: 0,
        }
        self.closes_connections = False  # while the worker stops, each answer ends its connection
        self.largest_body: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        self.largest_file: int = settings.LARGEST_FILE
        self.file_paths = paths_with("accepts_files")
        self.streams = Streams()
        self.queue = RequestQueue(settings.QUEUE_LENGTH, self.run, self.refuse)
        self.files = FileBodies(self.submit, self.refuse_file)
        # Where a POST takes longer than other requests.
        self.lines = dict.fromkeys(settings.PASSWORD_PATHS, self.queue.hashing)
        self.lines |= dict.fromkeys(self.file_paths, self.queue.files)
        self.waiting: dict[Any, tuple[float, int]] = {}  # by granian's future: when it is late, and the length
        self.waiting_bytes = 0
        self.lock = threading.Lock()
        threading.Thread(target=self.refuse_late_bodies, name="bodies", daemon=True).start()

    def handle(self, watcher: Any) -> None:
        """Take a request from granian, which ignores exceptions of this method."""
        protocol, environ = watcher.proto, {}
        try:
            environ = build_environ(self.base, watcher.scope)
            assign_ids(environ)
            request_arrived(environ)
            if environ["PATH_INFO"] in HEALTH_CHECKS and environ["REQUEST_METHOD"] in {"GET", "HEAD"}:
                self.answer_health_check(protocol, environ)
                return
            length = int(environ.get("CONTENT_LENGTH") or 0)  # granian has refused anything but a number
            # The application refuses a body that is too large, or has no length, without reading it.
            if not 0 < length <= self.largest_body:
                if self.is_file(environ, length):
                    self.files.receive(protocol, environ, length)
                else:
                    self.submit(protocol, environ, b"")
            elif self.queue.is_full or not self.make_room(length):
                headers = [("Retry-After", QUEUE_RETRY_AFTER), CLOSE]
                self.send_problem(protocol, environ, 503, headers)  # the body stays unread
            else:
                self.receive_body(protocol, environ, length)
        except BaseException:  # also a SystemExit: it would end nothing, and granian would answer in its own words
            self.send_last_resort(protocol, environ)

    def answer_health_check(self, protocol: Any, environ: Environ) -> None:
        """Answer at once, however many requests run and wait, whatever the Host."""
        answer = answer_health_check(environ["PATH_INFO"], environ[REQUEST_ID_KEY])
        if answer:
            self.send(protocol, environ, answer.status, [*answer.headers.items()], answer.body)
            log_answer(environ, answer.status, answer.body)

    def is_file(self, environ: Environ, length: int) -> bool:
        takes_files = environ["PATH_INFO"] in self.file_paths and environ["REQUEST_METHOD"] == "POST"
        # Without a token the application answers 401, and reads no body.
        return takes_files and "HTTP_AUTHORIZATION" in environ and 0 < length <= self.largest_file

    def refuse_file(self, protocol: Any, environ: Environ, status: int) -> None:
        try:
            if status == 503:
                headers = [("Retry-After", FILE_RETRY_AFTER), CLOSE]
                self.send_problem(protocol, environ, status, headers, TOO_MANY_FILES)
            else:
                self.send_problem(protocol, environ, status, [CLOSE], INCOMPLETE_BODY if status == 400 else "")
        except BaseException:  # also a SystemExit: it would end nothing
            self.send_last_resort(protocol, environ)

    def receive_body(self, protocol: Any, environ: Environ, length: int) -> None:
        future = protocol()
        with self.lock:
            self.waiting[future] = (time.monotonic() + settings.BODY_SECONDS, length)
            self.waiting_bytes += length
        future.add_done_callback(partial(self.submit_with_body, protocol, environ))

    def make_room(self, length: int) -> bool:
        """Refuse the oldest bodies until there is room for a new one. False if the oldest one has already arrived."""
        while True:
            with self.lock:
                if len(self.waiting) < MAX_WAITING_BODIES and self.waiting_bytes + length <= MAX_WAITING_BYTES:
                    return True
                oldest = next(iter(self.waiting))
            if not oldest.cancel():  # else it has called `submit_with_body`
                return False

    def refuse_late_bodies(self) -> None:
        while True:
            time.sleep(1)
            now = time.monotonic()
            with self.lock:
                late = [future for future, (deadline, _) in self.waiting.items() if deadline < now]
            for future in late:
                future.cancel()  # calls `submit_with_body`

    def submit_with_body(self, protocol: Any, environ: Environ, future: Any) -> None:
        try:
            with self.lock:
                self.waiting_bytes -= self.waiting.pop(future)[1]
            if future.cancelled():
                self.send_problem(protocol, environ, 408, [CLOSE])
                return
            try:
                body = future.result()
            except Exception:  # granian has no class for it: the connection ended within the body
                self.send_problem(protocol, environ, 400, [CLOSE], INCOMPLETE_BODY)
            else:
                self.submit(protocol, environ, body)
        except BaseException:  # also a SystemExit: it would end nothing, and granian would answer in its own words
            self.send_last_resort(protocol, environ)

    def submit(self, protocol: Any, environ: Environ, body: bytes | IO[bytes]) -> None:
        ordinary = self.queue.ordinary
        line = self.lines.get(environ["PATH_INFO"], ordinary) if environ["REQUEST_METHOD"] == "POST" else ordinary
        self.queue.submit(QueuedRequest(protocol, environ, body, line))

    def run(self, request: QueuedRequest) -> None:
        """Answer by the application: with the whole response at once, so that an exception in it can become a 500,
        but for a response that `streams`."""
        status, headers = 500, []

        def start_response(line: str, fields: Headers, exc_info: Any = None) -> None:
            nonlocal status, headers
            status, headers = int(line[:3]), fields

        try:
            request_left_queue(request.environ, request.environ[QUEUE_US] / 1_000_000, runs=True)
            body = request.body
            request.environ["wsgi.input"] = BytesIO(body) if isinstance(body, bytes) else body
            response = self.application(request.environ, start_response)
            if getattr(response, "streams", False):
                self.stream(request, response, status, headers)
                return
            try:
                self.send(request.protocol, request.environ, status, headers, b"".join(response))
            finally:
                if hasattr(response, "close"):
                    response.close()
        except BaseException:  # also a SystemExit: it would end nothing, and granian would answer in its own words
            self.send_last_resort(request.protocol, request.environ)
        if not isinstance(request.body, bytes):
            request.body.close()

    def stream(self, request: QueuedRequest, response: Any, status: int, headers: Headers) -> None:
        """Let the response be sent by another thread, or refuse it."""
        protocol, environ, body = request.protocol, request.environ, b""
        if environ["REQUEST_METHOD"] != "HEAD":
            if self.streams.start(protocol, environ, response, status, headers):
                return
            fields, body = problem_without_request(environ, 503, TOO_MANY_STREAMS)
            headers = [*fields.items(), ("Retry-After", STREAM_RETRY_AFTER)]
            status = response.status_code = 503  # also in the access log, whose line is written now
        response.close()
        self.send(protocol, environ, status, headers, body)

    def refuse(self, request: QueuedRequest, refusal: Refusal) -> None:
        if request.arrived:
            request.environ[QUEUE_US] = int((time.monotonic() - request.arrived) * 1_000_000)
        if refusal is not Refusal.QUEUE_FULL:
            request_left_queue(request.environ, time.monotonic() - request.arrived, runs=False)
        if request.line is self.queue.files:
            headers = [("Retry-After", FILE_RETRY_AFTER)]
            self.send_problem(request.protocol, request.environ, 503, headers, TOO_MANY_FILES)
        else:
            self.send_problem(request.protocol, request.environ, 503, [("Retry-After", QUEUE_RETRY_AFTER)])
        if not isinstance(request.body, bytes):
            request.body.close()

    def send_problem(self, protocol: Any, environ: Environ, status: int, headers: Headers, detail: str = "") -> None:
        fields, body = problem_without_request(environ, status, detail)
        self.send(protocol, environ, status, [*fields.items(), *headers], body)
        log_answer(environ, status, body)

    def send_last_resort(self, protocol: Any, environ: Environ) -> None:
        """Answer 500 for an exception that the application let pass. If there is an answer already, it stays."""
        _, headers, body = last_resort(environ)
        fields = {"request_id": headers["X-Request-Id"]}
        error_log.error("unhandled in the response", exc_info=True, extra={"fields": fields})
        self.send(protocol, environ, 500, list(headers.items()), body)
        if not environ.get(LOGGED):
            log_answer(environ, 500, body)

    def send(self, protocol: Any, environ: Environ, status: int, headers: Headers, body: bytes) -> None:
        request_answered(environ, status)
        if self.closes_connections:
            headers.append(CLOSE)
        protocol.response_bytes(status, headers, body)


def log_answer(environ: Environ, status: int, body: bytes) -> None:
    """Write the line of a request that the application has not seen, or not answered."""
    size = 0 if environ.get("REQUEST_METHOD") == "HEAD" else len(body)
    write_access_line(environ, status, route=route_of_environ(environ), duration_us=0, size=size)
