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
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from healthcare.operations.access_log import QUEUE_US
from healthcare.server.environ import Environ

CONCURRENT_REQUESTS = 4  # of a worker; each has one database connection
CONCURRENT_HASHING_REQUESTS = 2  # of those, which hash a password: seconds of CPU would otherwise occupy all of them
LONGEST_QUEUE_WAIT = 1.0  # seconds
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
class QueuedRequest:
    """A request whose body is there."""

    protocol: Any  # granian's RSGIHTTPProtocol
    environ: Environ
    body: bytes
    hashes_password: bool
    arrived: float = 0.0  # time.monotonic(); set when it has to wait
    disconnect: Any = None  # granian's future, done when the client has closed the connection


class RequestQueue:
    """Runs at most `CONCURRENT_REQUESTS` at once; lets `length` more wait, each for `LONGEST_QUEUE_WAIT` at most.

    Requests that hash a password wait in a queue of their own, so that others pass them. Both are first in, first out:
    they are so short that a request which is run has waited for less time than its client has patience.

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
        self.waiting: deque[QueuedRequest] = deque()
        self.waiting_to_hash: deque[QueuedRequest] = deque()
        self.postponed: deque[QueuedRequest] = deque()  # refused, and not yet answered
        self.refusals_left = REFUSALS_AT_ONCE
        self.hashing = 0  # running requests that hash a password
        self.refused = dict.fromkeys(Refusal, 0)  # since the start of the worker
        for _ in range(CONCURRENT_REQUESTS):
            connection = connections.create_connection(DEFAULT_DB_ALIAS)
            connection.inc_thread_sharing()  # used by one thread at a time
            self.free.add(connection)
        threading.Thread(target=self.watch_time, name="queue", daemon=True).start()

    @property
    def is_full(self) -> bool:
        return len(self.waiting) + len(self.waiting_to_hash) >= self.length

    def submit(self, request: QueuedRequest) -> None:
        """Run the request and those that wait after it, or let it wait, or refuse it."""
        connection = getattr(self.local, "connection", None)
        with self.lock:
            if self.free and (not request.hashes_password or self.hashing < CONCURRENT_HASHING_REQUESTS):
                if connection in self.free:
                    self.free.remove(connection)
                else:
                    connection = self.local.connection = connections[DEFAULT_DB_ALIAS] = self.free.pop()
                self.hashing += request.hashes_password
            elif not self.is_full:
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
        request.disconnect = request.protocol.client_disconnect()
        (self.waiting_to_hash if request.hashes_password else self.waiting).append(request)

    def next_request(self, connection: BaseDatabaseWrapper, finished: QueuedRequest) -> QueuedRequest | None:
        """The next request to run on the connection of the finished one; None, and the connection is free."""
        while True:
            with self.lock:
                self.hashing -= finished.hashes_password
                request = self.pop() if self.waiting or self.waiting_to_hash else None
                if request is None:
                    self.free.add(connection)
                    return None
                self.hashing += request.hashes_password
            waited = time.monotonic() - request.arrived
            if is_disconnected(request):
                self.count_and_refuse(request, Refusal.CLIENT_GONE)
            elif waited > LONGEST_QUEUE_WAIT:
                self.count_and_refuse(request, Refusal.WAITED_TOO_LONG)
            else:
                request.environ[QUEUE_US] = int(waited * 1_000_000)
                return request
            finished = request

    def pop(self) -> QueuedRequest | None:
        """Take the request that has waited longest of those that may run. The caller holds the lock."""
        others, hashing = self.waiting, self.waiting_to_hash
        may_hash = hashing and self.hashing < CONCURRENT_HASHING_REQUESTS
        if may_hash and not (others and others[0].arrived < hashing[0].arrived):
            return hashing.popleft()
        return others.popleft() if others else None

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
        """Refuse each request before it has waited longer than `LONGEST_QUEUE_WAIT`. Runs for ever, in a thread."""
        reported, report_at = dict(self.refused), 0.0
        while True:
            time.sleep(CHECK_INTERVAL)
            now = time.monotonic()
            arrived_before = now - LONGEST_QUEUE_WAIT + 3 * CHECK_INTERVAL  # the next check may come late
            for request in self.take_late(arrived_before):
                is_gone = is_disconnected(request)
                self.count_and_refuse(request, Refusal.CLIENT_GONE if is_gone else Refusal.WAITED_TOO_LONG)
            self.refuse_postponed(arrived_before)
            if now >= report_at and self.refused != reported:
                self.report(reported)
                reported, report_at = dict(self.refused), now + REPORT_INTERVAL

    def take_late(self, arrived_before: float) -> list[QueuedRequest]:
        late = []
        with self.lock:
            for queue in (self.waiting, self.waiting_to_hash):
                while queue and queue[0].arrived < arrived_before:
                    late.append(queue.popleft())
        return late

    def refuse_postponed(self, arrived_before: float) -> None:
        self.refusals_left = REFUSALS_AT_ONCE
        while self.postponed and (self.refusals_left > 0 or self.postponed[0].arrived < arrived_before):
            self.refusals_left -= 1
            self.count_and_refuse(self.postponed.popleft(), Refusal.QUEUE_FULL)

    def report(self, reported: dict[Refusal, int]) -> None:
        for refusal, number in self.refused.items():
            if number > reported[refusal]:
                logger.warning("%d requests not run: %s", number - reported[refusal], refusal)


def is_disconnected(request: QueuedRequest) -> bool:
    """Whether the client of a request that has waited has closed the connection. Ends the watch for it."""
    disconnected: bool = request.disconnect.done()
    if not disconnected:
        request.disconnect.cancel()
    return disconnected
