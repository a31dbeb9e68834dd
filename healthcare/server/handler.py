"""Requests from granian to the WSGI application, each when its body is there."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from io import BytesIO
from typing import Any

from django.conf import settings

from healthcare.api.problems import last_resort
from healthcare.server.environ import Environ, build_environ

MAX_WAITING_BODIES = 512  # of a worker; the oldest is refused for a newer one
MAX_WAITING_BYTES = 64 * 1024 * 1024
BODY_ERROR = "healthcare.body_error"  # in the WSGI environment: the status for a body that did not arrive

error_log = logging.getLogger("healthcare.errors")

Application = Callable[[Environ, Callable[..., None]], Iterable[bytes]]


class RequestHandler:
    """Calls the application with each request, in the threads of granian, when its body is there.

    A body is late after BODY_SECONDS, or earlier if more of them wait than the memory is for: then the application is
    called with an empty body and BODY_ERROR. So it is if the client ends the connection within its body.
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
        }
        self.largest_body: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        self.waiting: dict[Any, tuple[float, int]] = {}  # by granian's future: when it is late, and the length
        self.waiting_bytes = 0
        self.lock = threading.Lock()
        threading.Thread(target=self.refuse_late_bodies, daemon=True).start()

    def handle(self, watcher: Any) -> None:
        """Take a request from granian, which ignores exceptions of this method."""
        protocol = watcher.proto
        try:
            environ = build_environ(self.base, watcher.scope)
            length = int(environ.get("CONTENT_LENGTH") or 0)  # granian has refused anything but a number
            # The application refuses a body that is too large, or has no length, without reading it.
            if 0 < length <= self.largest_body:
                self.receive_body(protocol, environ, length)
            else:
                self.answer(protocol, environ, b"")
        except BaseException:  # also a SystemExit: it would end nothing, and granian would answer in its own words
            self.answer_error(protocol)

    def receive_body(self, protocol: Any, environ: Environ, length: int) -> None:
        future = protocol()
        with self.lock:
            self.waiting[future] = (time.monotonic() + settings.BODY_SECONDS, length)
            self.waiting_bytes += length
            oldest = next(iter(self.waiting))
            excess = len(self.waiting) > MAX_WAITING_BODIES or self.waiting_bytes > MAX_WAITING_BYTES
        future.add_done_callback(partial(self.answer_with_body, protocol, environ))
        if excess:
            oldest.cancel()

    def refuse_late_bodies(self) -> None:
        while True:
            time.sleep(1)
            now = time.monotonic()
            with self.lock:
                late = [future for future, (deadline, _) in self.waiting.items() if deadline < now]
            for future in late:
                future.cancel()  # calls `answer_with_body`

    def answer_with_body(self, protocol: Any, environ: Environ, future: Any) -> None:
        try:
            with self.lock:
                self.waiting_bytes -= self.waiting.pop(future)[1]
            body = b""
            if future.cancelled():
                environ[BODY_ERROR] = 408
            else:
                try:
                    body = future.result()
                except Exception:  # granian has no class for it: the connection ended within the body
                    environ[BODY_ERROR] = 400
            self.answer(protocol, environ, body)
        except BaseException:  # also a SystemExit: it would end nothing, and granian would answer in its own words
            self.answer_error(protocol)

    def answer(self, protocol: Any, environ: Environ, body: bytes) -> None:
        """Answer with the whole response at once, so that an exception of a streaming one can still become a 500."""
        environ["wsgi.input"] = BytesIO(body)
        status, headers = 500, []

        def start_response(line: str, fields: list[tuple[str, str]], exc_info: Any = None) -> None:
            nonlocal status, headers
            status, headers = int(line[:3]), fields

        response = self.application(environ, start_response)
        try:
            protocol.response_bytes(status, headers, b"".join(response))
        finally:
            if hasattr(response, "close"):
                response.close()

    @staticmethod
    def answer_error(protocol: Any) -> None:
        """Answer 500 for an exception that the application let pass. If there is an answer already, it stays."""
        _, headers, body = last_resort()
        error_log.error("unhandled in the response request_id=%s", headers["X-Request-Id"], exc_info=True)
        protocol.response_bytes(500, list(headers.items()), body)
