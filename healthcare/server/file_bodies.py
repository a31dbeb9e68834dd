"""Bodies that are too large for the memory of a worker: files, which some views accept (`accepts_files`).

Each is written to a temporary file without a name, by a thread that ends when the request has run or is queued. A body
has BODY_SECONDS to arrive, and longer the more of it is there.
"""

import logging
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

from django.conf import settings

from healthcare.operations.request_ids import REQUEST_ID_KEY
from healthcare.server.environ import Environ

MAX_FILES = 8  # that arrive at once at a worker
SLOWEST_UPLOAD_RATE = 64 * 1024  # bytes a second, beyond BODY_SECONDS
YOUNG_SECONDS = 1.0  # in which the rate of a body says nothing yet
STALE_FILE_INTERVAL = 1.0  # seconds

logger = logging.getLogger("healthcare.server")


@dataclass(slots=True, eq=False)
class FileBody:
    protocol: Any
    environ: Environ
    length: int  # bytes
    started: float = field(default_factory=time.monotonic)
    received: int = 0
    future: Any = None  # granian's, of the next part
    is_displaced: bool = False  # a newer one needs its place

    def is_slow(self) -> bool:
        age = time.monotonic() - self.started
        return age > YOUNG_SECONDS and self.received < age * SLOWEST_UPLOAD_RATE

    @property
    def deadline(self) -> float:
        return self.started + float(settings.BODY_SECONDS) + self.received / SLOWEST_UPLOAD_RATE

    def next_part(self) -> bytes | None:
        """The bytes that have arrived next; None if they are late, and empty if the connection has ended."""
        arrived = threading.Event()
        self.future = self.protocol.__anext__()
        self.future.add_done_callback(lambda _: arrived.set())
        while not arrived.wait(STALE_FILE_INTERVAL):
            if self.is_displaced or time.monotonic() > self.deadline:
                self.future.cancel()
        return None if self.future.cancelled() else bytes(self.future.result())


class FileBodies:
    """The files that arrive at a worker. `submit` gets each with its position at the start, and closes it."""

    def __init__(
        self,
        submit: Callable[[Any, Environ, IO[bytes]], None],
        refuse: Callable[[Any, Environ, int], None],
    ) -> None:
        """`refuse` answers by a problem with the status 400, 408 or 503, and raises nothing."""
        self.submit, self.refuse = submit, refuse
        self.lock = threading.Lock()
        self.arriving: set[FileBody] = set()

    def receive(self, protocol: Any, environ: Environ, length: int) -> None:
        body = FileBody(protocol, environ, length)
        with self.lock:
            has_room = len(self.arriving) < MAX_FILES or self.displace_slow()
            if has_room:
                self.arriving.add(body)
        if not has_room:
            self.refuse(protocol, environ, 503)
            return
        try:
            threading.Thread(target=self.run, args=[body], name="file", daemon=True).start()
        except RuntimeError:  # the process can start no thread at the moment
            self.arriving.discard(body)
            self.refuse(protocol, environ, 503)

    def displace_slow(self) -> bool:
        """Refuse the body that is slowest, if it is too slow. The caller holds the lock."""
        slow = min(self.arriving, key=lambda body: body.received / max(time.monotonic() - body.started, YOUNG_SECONDS))
        if not slow.is_slow():
            return False
        self.arriving.discard(slow)
        slow.is_displaced = True
        if slow.future:
            slow.future.cancel()
        return True

    def run(self, body: FileBody) -> None:
        file = tempfile.TemporaryFile()  # noqa: SIM115  (the request closes it)
        try:
            status = self.fill(file, body)
        except Exception as error:  # such as a full disk
            fields = {"error": type(error).__name__, "request_id": body.environ.get(REQUEST_ID_KEY)}
            logger.error("a file cannot be stored", extra={"fields": fields})
            status = 503
        with self.lock:
            self.arriving.discard(body)
        if status:
            file.close()
            self.refuse(body.protocol, body.environ, status)
        else:
            file.seek(0)
            self.submit(body.protocol, body.environ, file)

    def fill(self, file: IO[bytes], body: FileBody) -> int:
        """Write the body to the file. Returns the status of the refusal, or 0."""
        body.protocol.__aiter__()
        while body.received < body.length:
            part = body.next_part()
            if part is None:
                return 408
            if not part:
                return 400
            file.write(part)
            body.received += len(part)
        file.flush()
        return 0
