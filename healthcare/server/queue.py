"""The queue of a worker: which requests run at once, which wait, and which are refused.

granian has more threads than requests may run at once, so that one is always free to take the next request from it, and
to queue or refuse it. A request needs one of the worker's database connections, `CONCURRENT_REQUESTS` in all. If one is
free, the thread that has taken the request runs it at once. Otherwise the request waits here, and a thread that has
finished a request runs the next one.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import IO, Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from healthcare.operations.access_log import QUEUE_US
from healthcare.server.environ import Environ

CONCURRENT_REQUESTS = 4  # of a worker; each has one database connection
CONCURRENT_HASHING_REQUESTS = 2  # of those, which hash a password: seconds of CPU would otherwise occupy all of them
CONCURRENT_FILE_REQUESTS = 1  # of those, which process a file: seconds of CPU, too
WAITING_FILE_REQUESTS = 4
LONGEST_QUEUE_WAIT = 1.0  # seconds
LONGEST_FILE_WAIT = 10.0  # seconds that a request with a file waits; it has taken its client long to send
CHECK_INTERVAL = 0.1  # seconds between two searches for requests that have waited too long
REFUSALS_AT_ONCE = 50  # in each CHECK_INTERVAL, see `RequestQueue`
REPORT_INTERVAL = 1.0  # seconds that one line in the log sums up

logger = logging.getLogger("healthcare.server")


class Refusal(StrEnum):
    """Why a request is answered by 503 without being run."""

    QUEUE_FULL = "the queue is full"
    WAITED_TOO_LONG = "it has waited too long"
    CLIENT_GONE = "its client has closed the connection"  # nobody reads the answer


@dataclass(slots=True, eq=False)
class Line:
    """The requests of one kind: those that wait, and how many run."""

    at_once: int
    waiting: "deque[QueuedRequest]" = field(default_factory=deque)
    running: int = 0


@dataclass(slots=True, eq=False)
class QueuedRequest:
    """A request whose body is there."""

    protocol: Any  # granian's RSGIHTTPProtocol
    environ: Environ
    body: bytes | IO[bytes]
    line: Line
    arrived: float = 0.0  # time.monotonic(); set when it has to wait
    disconnect: Any = None  # granian's future, done when the client has closed the connection; see `watch_clients`


class RequestQueue:
    """Runs at most `CONCURRENT_REQUESTS` at once; lets `length` more wait, each for `LONGEST_QUEUE_WAIT` at most.

    Requests that hash a password wait in a line of their own, so that others pass them. Both are first in, first out:
    they are so short that a request which is run has waited for less time than its client has patience. Requests with
    files have another line, in which few wait, and each for `LONGEST_FILE_WAIT` at most.

    A client that repeats a refused request at once would cost more CPU than the requests that run. So beyond
    `REFUSALS_AT_ONCE` the 503 is postponed, by less than `LONGEST_QUEUE_WAIT`, which limits how often clients can
    repeat.
    """

    def __init__(
        self,
        length: int,
        run: Callable[[QueuedRequest], None],
        refuse: Callable[[QueuedRequest, Refusal], None],
    ) -> None:
        """Neither `run` nor `refuse` raises an exception."""
        self.length, self.run, self.refuse = length, run, refuse
        self.lock = threading.Lock()
        self.free: set[BaseDatabaseWrapper] = set()
        self.local = threading.local()  # `connection`: the one that the thread has used last
        self.ordinary = Line(CONCURRENT_REQUESTS)
        self.hashing = Line(CONCURRENT_HASHING_REQUESTS)
        self.files = Line(CONCURRENT_FILE_REQUESTS)
        self.lines = (self.ordinary, self.hashing, self.files)
        self.postponed: deque[QueuedRequest] = deque()  # refused, and not yet answered
        self.refusals_left = REFUSALS_AT_ONCE
        self.refused = dict.fromkeys(Refusal, 0)  # since the start of the worker
        for _ in range(CONCURRENT_REQUESTS):
            connection = connections.create_connection(DEFAULT_DB_ALIAS)
            connection.inc_thread_sharing()  # used by one thread at a time
            self.free.add(connection)
        threading.Thread(target=self.watch_time, name="queue", daemon=True).start()

    @property
    def is_full(self) -> bool:
        return len(self.ordinary.waiting) + len(self.hashing.waiting) >= self.length

    def has_room_in(self, line: Line) -> bool:
        return len(line.waiting) < WAITING_FILE_REQUESTS if line is self.files else not self.is_full

    def submit(self, request: QueuedRequest) -> None:
        """Run the request and those that wait after it, or let it wait, or refuse it."""
        connection, line = getattr(self.local, "connection", None), request.line
        with self.lock:
            if self.free and line.running < line.at_once:
                if connection in self.free:
                    self.free.remove(connection)
                else:
                    connection = self.local.connection = connections[DEFAULT_DB_ALIAS] = self.free.pop()
                line.running += 1
            elif self.has_room_in(line):
                self.wait(request)
                return
            else:
                connection = None
        if connection is None:
            self.refuse_or_postpone(request)
            return
        following: QueuedRequest | None = request
        while following:
            self.run(following)
            following = self.next_request(connection, following)

    def wait(self, request: QueuedRequest) -> None:
        request.arrived = time.monotonic()
        request.line.waiting.append(request)

    def next_request(self, connection: BaseDatabaseWrapper, finished: QueuedRequest) -> QueuedRequest | None:
        """The next request to run on the connection of the finished one; None, and the connection is free."""
        while True:
            with self.lock:
                finished.line.running -= 1
                request = self.pop()
                if request is None:
                    self.free.add(connection)
                    return None
                request.line.running += 1
            waited = time.monotonic() - request.arrived
            if is_disconnected(request):
                self.count_and_refuse(request, Refusal.CLIENT_GONE)
            elif waited > self.longest_wait(request.line):
                self.count_and_refuse(request, Refusal.WAITED_TOO_LONG)
            else:
                request.environ[QUEUE_US] = int(waited * 1_000_000)
                return request
            finished = request

    def pop(self) -> QueuedRequest | None:
        """Take the request that has waited longest of those that may run. The caller holds the lock."""
        first = None
        for line in self.lines:
            if line.waiting and line.running < line.at_once:
                first = line if first is None or line.waiting[0].arrived < first.waiting[0].arrived else first
        return first.waiting.popleft() if first else None

    def longest_wait(self, line: Line) -> float:
        return LONGEST_FILE_WAIT if line is self.files else LONGEST_QUEUE_WAIT

    def refuse_or_postpone(self, request: QueuedRequest) -> None:
        if self.refusals_left > 0:  # two threads may both take the last one, which does no harm
            self.refusals_left -= 1
            self.count_and_refuse(request, Refusal.QUEUE_FULL)
        else:
            request.arrived = time.monotonic()
            self.postponed.append(request)

    def count_and_refuse(self, request: QueuedRequest, refusal: Refusal) -> None:
        self.refused[refusal] += 1  # an update may get lost between threads: the log's figures are approximate
        self.refuse(request, refusal)

    def watch_time(self) -> None:
        """Refuse each request before it has waited longer than `longest_wait`. Runs for ever, in a thread."""
        reported, report_at = dict(self.refused), 0.0
        while True:
            time.sleep(CHECK_INTERVAL)
            now = time.monotonic()
            self.watch_clients(now)
            for request in self.take_late(now):
                is_gone = is_disconnected(request)
                self.count_and_refuse(request, Refusal.CLIENT_GONE if is_gone else Refusal.WAITED_TOO_LONG)
            self.refuse_postponed(arrived_before(now, LONGEST_QUEUE_WAIT))
            if now >= report_at and self.refused != reported:
                self.report(reported)
                reported, report_at = dict(self.refused), now + REPORT_INTERVAL

    def watch_clients(self, now: float) -> None:
        """Watch whether the clients of requests that have waited for a while are still there. Most wait for less than a
        watch costs."""
        with self.lock:
            for line in self.lines:
                for request in line.waiting:
                    if request.disconnect is None and request.arrived < now - CHECK_INTERVAL:
                        request.disconnect = request.protocol.client_disconnect()

    def take_late(self, now: float) -> list[QueuedRequest]:
        late = []
        with self.lock:
            for line in self.lines:
                while line.waiting and line.waiting[0].arrived < arrived_before(now, self.longest_wait(line)):
                    late.append(line.waiting.popleft())
        return late

    def refuse_postponed(self, late_from: float) -> None:
        self.refusals_left = REFUSALS_AT_ONCE
        while self.postponed and (self.refusals_left > 0 or self.postponed[0].arrived < late_from):
            self.refusals_left -= 1
            self.count_and_refuse(self.postponed.popleft(), Refusal.QUEUE_FULL)

    def report(self, reported: dict[Refusal, int]) -> None:
        for refusal, number in self.refused.items():
            if number > reported[refusal]:
                logger.warning("%d requests not run: %s", number - reported[refusal], refusal)


def arrived_before(now: float, longest_wait: float) -> float:
    """When a request has arrived that has waited for so long, or will have before the next check, which may be late."""
    return now - longest_wait + 3 * CHECK_INTERVAL


def is_disconnected(request: QueuedRequest) -> bool:
    """Whether the client of a request is known to have closed the connection. Ends the watch for it."""
    if request.disconnect is None:
        return False
    disconnected: bool = request.disconnect.done()
    if not disconnected:
        request.disconnect.cancel()
    return disconnected
