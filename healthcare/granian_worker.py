"""A granian worker for WSGI that reads the body of a request before one of the few threads that answer takes it.

granian's own WSGI worker calls the application once the headers are there, so each slow body occupies a thread, without
a deadline. It also gives `X_Forwarded_For` the key of `X-Forwarded-For`, which lets a client forge what a proxy says.
granian's RSGI worker reads bodies asynchronously and hands over the headers under their names, but runs on an event
loop, which costs a request without a body twice the CPU. This worker takes the requests of the RSGI worker in granian's
threads, without an event loop: the CPU of a request without a body is that of the WSGI worker.

It uses parts of granian that are not documented, so requirements.txt pins granian to one version.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from io import BytesIO
from typing import Any

from django.conf import settings
from granian._granian import CallbackScheduler, RSGIWorker
from granian._signals import set_sync_signals
from granian.server.common import WORKERS_METHODS
from granian.server.mp import MPServer, WorkerProcess

from healthcare.api.problems import last_resort

MAX_WAITING_BODIES = 512  # of a worker; the oldest is refused for a newer one
MAX_WAITING_BYTES = 64 * 1024 * 1024
BODY_ERROR = "healthcare.body_error"  # in the WSGI environment: the status for a body that did not arrive

error_log = logging.getLogger("healthcare.errors")

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., None]], Iterable[bytes]]


@lru_cache(maxsize=1024)
def environ_key(header: str) -> str:
    """The key of a header, of which granian gives the name in lower case; empty for a name with an underscore."""
    if header in {"content-type", "content-length"}:
        return header.upper().replace("-", "_")
    return "" if "_" in header else f"HTTP_{header.upper().replace('-', '_')}"


def as_wsgi_text(text: str) -> str:
    """Latin-1 that stands for the bytes of UTF-8 (PEP 3333)."""
    return text if text.isascii() else text.encode().decode("latin-1")


def build_environ(base: Environ, scope: Any) -> Environ:
    """The WSGI environment of a request but for its body. A header with bytes outside ASCII is empty, as in granian."""
    environ = base.copy()
    environ["REQUEST_METHOD"] = scope.method
    environ["PATH_INFO"] = as_wsgi_text(scope.path)
    environ["QUERY_STRING"] = as_wsgi_text(scope.query_string)
    environ["SERVER_PROTOCOL"] = f"HTTP/{scope.http_version}"
    environ["SERVER_NAME"], _, environ["SERVER_PORT"] = scope.server.rpartition(":")
    environ["REMOTE_ADDR"] = scope.client.rpartition(":")[0].strip("[]")
    headers, keys_before = scope.headers, len(environ)
    for name, value in headers.items():
        key = environ_key(name)
        if key in environ:
            value = f"{environ[key]}{';' if name == 'cookie' else ','}{value}"
        if key:
            environ[key] = value
    if len(environ) - keys_before < len(headers):  # some are left out
        unreadable = {environ_key(name) for name in headers.keys()} - environ.keys() - {""}  # noqa: SIM118
        environ.update(dict.fromkeys(unreadable, ""))
    if "HTTP_HOST" not in environ:
        environ["HTTP_HOST"] = scope.authority or ""
    return environ


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


class InlineLoop:
    """In place of the event loop of granian's futures: runs their callbacks at once, in granian's thread."""

    def call_soon(self, callback: Callable[..., None], *arguments: Any, context: Any = None) -> None:
        callback(*arguments)

    call_soon_threadsafe = call_soon


class Scheduler(CallbackScheduler):
    """What granian calls with each request. The arguments are those that the base class takes in `__new__`."""

    def __init__(self, loop: InlineLoop, handle: Callable[[Any], None], *unused: None) -> None:
        super().__init__()
        self._schedule_fn = handle


class Server(MPServer):
    @staticmethod
    @WorkerProcess.wrap_target  # type: ignore[untyped-decorator]
    def _spawn_wsgi_worker(
        worker_id: int,
        application: Application,
        sock: Any,
        ipc: Any,
        _loop: Any,
        runtime_mode: Any,
        runtime_threads: int,
        runtime_blocking_threads: int | None,
        blocking_threads: int,
        blocking_threads_idle_timeout: int,
        backpressure: int,
        _task_impl: Any,
        http_mode: Any,
        http1_settings: Any,
        http2_settings: Any,
        websockets: bool,
        static_path: Any,
        _log_access_format: str | None,
        ssl_context: Any,
        _scope_options: Any,
        metrics: Any,
    ) -> None:
        """As granian's `_spawn_wsgi_worker`, but for the handler of the requests."""
        shutdown = set_sync_signals()  # type: ignore[no-untyped-call]
        stopped = threading.Event()
        shutdown.add_cb(stopped.set)
        worker_class: Any = RSGIWorker  # granian's stub lacks some of the arguments
        worker = worker_class(
            worker_id,
            sock,
            ipc,
            runtime_threads,
            runtime_blocking_threads,
            blocking_threads,
            blocking_threads_idle_timeout,
            backpressure,
            http_mode,
            http1_settings,
            http2_settings,
            websockets,
            static_path,
            *ssl_context,
            metrics,
        )
        listener = sock[0] or sock[1]
        serve = getattr(worker, WORKERS_METHODS[runtime_mode][listener.is_uds()])
        loop = InlineLoop()
        handler = RequestHandler(application)
        serve(Scheduler(loop, handler.handle, None, None, None), loop, shutdown)
        stopped.wait()
