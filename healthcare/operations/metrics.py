"""Counts what the workers do, in memory that the server's processes share.

The parent creates the memory before its workers, and gives each worker a slot, which no other process writes. The
endpoint sums the slots (see `metrics_text`). The slot of a dead worker keeps its counts, and the next worker that gets
the slot continues them, so the sums are exact across workers and their deaths.

What can be counted is fixed at the start: the routes of the URL conf, and the methods, statuses, limits and SQLSTATEs
below. Anything else counts as `other`, so that no client can create a series.

Without `serve` or METRICS there is no memory, and every function here does nothing.
"""

import mmap
import os
import tempfile
import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from http import HTTPMethod
from multiprocessing.reduction import DupFd
from time import perf_counter
from typing import Any

from psycopg2 import errorcodes

from healthcare.operations.routes import UNKNOWN, route_of_environ

OTHER = UNKNOWN
# In the WSGI environment of a request that is not answered yet: when it arrived, and whether a thread runs it.
ARRIVED, RUNS = "healthcare.arrived", "healthcare.runs"
METHODS = (*HTTPMethod.__members__, OTHER)
# Those of this API, of Django and of the server.
STATUSES = (
    *(200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308),
    *(400, 401, 403, 404, 405, 406, 408, 409, 410, 411, 412, 413, 414, 415, 416, 422, 423, 425, 428, 429, 431),
    *(500, 501, 502, 503, 504),
)
# The names of the rate limits.
BUCKET_LIMITS = (
    *("requests", "failures", "registrations", "e-mail-changes", "names", "account-files", "e-mails", "links"),
    "exports",
    OTHER,
)
# What became of reads on replicas: see `healthcare.replicas`.
REPLICA_READS = ("served", "behind", "other", "failed")
SQLSTATES = (*sorted({code for code in vars(errorcodes).values() if isinstance(code, str) and len(code) == 5}), OTHER)
# Each has a sample from the start, since Prometheus does not see the increase of a series that begins at 1.
WATCHED_SQLSTATES = frozenset({
    "08001", "08003", "08006", "25006", "40001", "40P01", "42501", "42703", "42883", "42P01", "53100", "53200", "53300",
    "55P03", "57014", "57P01", "57P02", "57P03", "58030", "XX000", "XX001", "XX002",
})  # fmt: skip
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds

CELL = 8  # bytes: the processor writes and reads an aligned one at once
SUM_OF_SECONDS = len(BUCKETS) + 1  # in a histogram, after the observations in each bucket and those beyond the last
HISTOGRAM_CELLS = SUM_OF_SECONDS + 1
# The cells of a slot, before the requests of each route and method.
OWNER, IN_FLIGHT, THREADS_BUSY, LOGIN_FAILURES, IDEMPOTENT_REPLAYS = range(5)
FIRST_REPLICA_READ = IDEMPOTENT_REPLAYS + 1
FIRST_LIMIT = FIRST_REPLICA_READ + len(REPLICA_READS)
FIRST_SQLSTATE = FIRST_LIMIT + len(BUCKET_LIMITS)
QUEUE = FIRST_SQLSTATE + len(SQLSTATES)
QUEUE_SECONDS = QUEUE + SUM_OF_SECONDS
FIRST_REQUESTS = QUEUE + HISTOGRAM_CELLS
# The requests of one route and method: one cell for each status, one for any other status, and the histogram.
REQUESTS_HISTOGRAM = len(STATUSES) + 1
REQUESTS_CELLS = REQUESTS_HISTOGRAM + HISTOGRAM_CELLS
# The cells of the parent, before the slots.
WORKER_RESTARTS, DRAIN_ANNOUNCED, PARENT_CELLS = 0, 1, 8

LIMIT_CELLS = {name: FIRST_LIMIT + number for number, name in enumerate(BUCKET_LIMITS)}
REPLICA_READ_CELLS = {name: FIRST_REPLICA_READ + number for number, name in enumerate(REPLICA_READS)}
SQLSTATE_CELLS = {code: FIRST_SQLSTATE + number for number, code in enumerate(SQLSTATES)}
STATUS_CELLS = {status: number for number, status in enumerate(STATUSES)}
OTHER_STATUS = len(STATUSES)


class MetricsMemory:
    """The memory: anonymous, so nothing of it is left when the last process has ended.

    The parent creates it with the routes. A worker inherits it, or unpickles it where processes are spawned.
    """

    def __init__(self, workers: int, routes: Sequence[str], descriptor: int | None = None) -> None:
        self.workers, self.routes = workers, tuple(routes)
        self.slots = 2 * workers  # a worker that is being replaced may still have requests when the next one starts
        self.slot_cells = FIRST_REQUESTS + len(self.routes) * len(METHODS) * REQUESTS_CELLS
        size = CELL * (PARENT_CELLS + self.slots * self.slot_cells)
        self.descriptor = create_anonymous_file(size) if descriptor is None else descriptor
        self.map = mmap.mmap(self.descriptor, size)
        self.cells: memoryview[int] = memoryview(self.map).cast("q")
        self.seconds: memoryview[float] = memoryview(self.map).cast("d")  # the same bytes, for the sums of seconds

    def __reduce__(self) -> tuple[Callable[..., "MetricsMemory"], tuple[Any, ...]]:
        return reopen, (self.workers, self.routes, DupFd(self.descriptor))

    def slot(self, number: int) -> "memoryview[int]":
        start = PARENT_CELLS + number * self.slot_cells
        return self.cells[start : start + self.slot_cells]

    def slot_seconds(self, number: int) -> "memoryview[float]":
        start = PARENT_CELLS + number * self.slot_cells
        return self.seconds[start : start + self.slot_cells]

    def count_worker_restart(self) -> None:
        """Call it in the parent."""
        self.cells[WORKER_RESTARTS] += 1

    def announce_drain(self) -> None:
        """Call it in the parent: from now on /readyz of METRICS answers 503."""
        self.cells[DRAIN_ANNOUNCED] = 1

    def used_slots(self) -> list[int]:
        return [number for number in range(self.slots) if self.slot(number)[OWNER]]


def reopen(workers: int, routes: Sequence[str], descriptor: Any) -> MetricsMemory:
    return MetricsMemory(workers, routes, descriptor.detach())


def create_anonymous_file(size: int) -> int:
    """The descriptor of memory without a name, or of a deleted file on systems without memfd_create."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("healthcare-metrics")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


class WorkerMetrics:
    """The slot of this worker. Its threads write under one lock, since `+=` is not atomic."""

    def __init__(self, memory: MetricsMemory, number: int) -> None:
        self.cells, self.seconds = memory.slot(number), memory.slot_seconds(number)
        self.requests = {
            (route, method): FIRST_REQUESTS + (row * len(METHODS) + column) * REQUESTS_CELLS
            for row, route in enumerate(memory.routes)
            for column, method in enumerate(METHODS)
        }
        self.lock = threading.Lock()
        self.cells[IN_FLIGHT] = self.cells[THREADS_BUSY] = 0  # those of the previous worker ended with it
        self.cells[OWNER] = os.getpid()

    def add(self, cell: int) -> None:
        with self.lock:
            self.cells[cell] += 1

    def left_queue(self, seconds: float, runs: bool) -> None:
        cells, bucket = self.cells, QUEUE + bisect_left(BUCKETS, seconds)
        with self.lock:
            cells[bucket] += 1
            self.seconds[QUEUE_SECONDS] += seconds
            cells[THREADS_BUSY] += runs

    def left_thread(self) -> None:
        with self.lock:
            self.cells[THREADS_BUSY] -= 1

    def answered(self, method: str, route: str, status: int, seconds: float, ran: bool) -> None:
        start = self.requests.get((route, method)) or self.find_requests(route, method)
        histogram = start + REQUESTS_HISTOGRAM
        status_cell, bucket = start + STATUS_CELLS.get(status, OTHER_STATUS), histogram + bisect_left(BUCKETS, seconds)
        cells = self.cells
        with self.lock:
            cells[status_cell] += 1
            cells[bucket] += 1
            self.seconds[histogram + SUM_OF_SECONDS] += seconds
            cells[IN_FLIGHT] -= 1
            cells[THREADS_BUSY] -= ran

    def find_requests(self, route: str, method: str) -> int:
        """The first cell for a method or a route that is not known."""
        route = route if (route, OTHER) in self.requests else OTHER
        return self.requests.get((route, method)) or self.requests[route, OTHER]


worker: WorkerMetrics | None = None  # of this process


def take_slot(memory: MetricsMemory, number: int) -> None:
    """Count in this slot from now on. The parent has seen the end of the worker that had it before."""
    global worker
    worker = WorkerMetrics(memory, number)


def request_arrived(environ: dict[str, Any]) -> None:
    """Note that the headers of a request are here. `environ` is its WSGI environment."""
    if worker:
        environ[ARRIVED] = perf_counter()
        worker.add(IN_FLIGHT)


def request_left_queue(environ: dict[str, Any], seconds: float, *, runs: bool) -> None:
    """Note that a request has waited so long for a thread: either it runs now, or it is refused."""
    if worker:
        worker.left_queue(seconds, runs)
        environ[RUNS] = runs


def request_left_thread(environ: dict[str, Any]) -> None:
    """Note that a request goes on outside the threads that run requests, as a stream does."""
    if worker and environ.pop(RUNS, False):
        worker.left_thread()


def request_answered(environ: dict[str, Any], status: int) -> None:
    """Count the answer before it is sent, so that a client that has it finds it counted. A request counts once."""
    if worker and (arrived := environ.pop(ARRIVED, None)):
        seconds = perf_counter() - arrived
        worker.answered(environ["REQUEST_METHOD"], route_of_environ(environ), status, seconds, environ.get(RUNS, False))


def count_login_failure() -> None:
    if worker:
        worker.add(LOGIN_FAILURES)


def count_idempotent_replay() -> None:
    if worker:
        worker.add(IDEMPOTENT_REPLAYS)


def count_replica_read(outcome: str) -> None:
    if worker:
        worker.add(REPLICA_READ_CELLS[outcome])


def count_throttled(limit: str) -> None:
    """Count a 429 of the rate limit of this name."""
    if worker:
        worker.add(LIMIT_CELLS.get(limit, LIMIT_CELLS[OTHER]))


def count_database_error(sqlstate: str) -> None:
    if worker:
        worker.add(SQLSTATE_CELLS.get(sqlstate, SQLSTATE_CELLS[OTHER]))
