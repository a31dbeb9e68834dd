"""The metrics as Prometheus reads them: its text format, version 0.0.4."""

import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from operator import add

from django.conf import settings

from healthcare.operations import metrics
from healthcare.operations.metrics import BUCKETS, METHODS, STATUSES, MetricsMemory

METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[tuple[str, str], ...]
Samples = Iterable[tuple[str, Labels, float]]  # the suffix of the name, the labels and the value
Gauge = tuple[str, str, Mapping[Labels, float]]  # the name, the help and the values by their labels

STATUS_LABELS = (*(str(status) for status in STATUSES), metrics.OTHER)
BUCKET_LABELS = (*(repr(bound) for bound in BUCKETS), "+Inf")


class Totals:
    """The sums over the slots of all workers, at one moment."""

    def __init__(self, memory: MetricsMemory) -> None:
        self.routes = memory.routes
        self.restarts = memory.cells[metrics.WORKER_RESTARTS]
        self.cells: list[int] = [0] * memory.slot_cells
        self.seconds: dict[int, float] = {}
        for number in memory.used_slots():
            self.add(memory, number)

    def add(self, memory: MetricsMemory, number: int) -> None:
        # Cell by cell, unlike a copy of the bytes, which could take half of a cell before a write and half after it.
        cells = memory.slot(number).tolist()
        if not is_alive(cells[metrics.OWNER]):
            cells[metrics.IN_FLIGHT] = cells[metrics.THREADS_BUSY] = 0
        self.cells = list(map(add, self.cells, cells))
        seconds = memory.slot_seconds(number)
        for histogram in [metrics.QUEUE, *self.request_histograms()]:
            cell = histogram + metrics.SUM_OF_SECONDS
            if cells[cell]:  # the bits of a sum that is not 0.0
                self.seconds[histogram] = self.seconds.get(histogram, 0.0) + seconds[cell]

    def request_histograms(self) -> range:
        start = metrics.FIRST_REQUESTS + metrics.REQUESTS_HISTOGRAM
        return range(start, len(self.cells), metrics.REQUESTS_CELLS)

    def requests(self) -> Iterator[tuple[Labels, int]]:
        """The method and route of every request so far, and the first of its cells."""
        starts = iter(range(metrics.FIRST_REQUESTS, len(self.cells), metrics.REQUESTS_CELLS))
        for route in self.routes:
            for method in METHODS:
                start = next(starts)
                if any(self.cells[start : start + metrics.REQUESTS_HISTOGRAM]):
                    yield (("method", method), ("route", route)), start

    def histogram(self, start: int, labels: Labels = ()) -> Samples:
        buckets = accumulate(self.cells[start : start + len(BUCKET_LABELS)])
        count = 0
        for bound, count in zip(BUCKET_LABELS, buckets, strict=True):
            yield "_bucket", (*labels, ("le", bound)), count
        yield "_sum", labels, self.seconds.get(start, 0.0)
        yield "_count", labels, count


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True


def render(memory: MetricsMemory, gauges: Iterable[Gauge] = ()) -> str:
    """The text. `gauges` are those that the workers do not count."""
    lines = [line for family in families(Totals(memory)) for line in render_family(*family)]
    for name, text, values in gauges:
        lines += render_family(name, "gauge", text, (("", labels, value) for labels, value in values.items()))
    return "\n".join(lines) + "\n"


def families(totals: Totals) -> Iterator[tuple[str, str, str, Samples]]:
    """The name, the type, the help and the samples of each metric that the workers count."""
    yield from request_families(totals)
    yield from event_families(totals)
    build = (("version", settings.VERSION), ("python", platform.python_version()))
    yield "healthcare_build_info", "gauge", "The version that runs; always 1.", [("", build, 1)]


def request_families(totals: Totals) -> Iterator[tuple[str, str, str, Samples]]:
    cells = totals.cells
    requests = [*totals.requests()]
    yield (
        "healthcare_http_requests_total", "counter", "Answered HTTP requests.",
        [
            ("", (*labels, ("status", status)), cells[start + number])
            for labels, start in requests
            for number, status in enumerate(STATUS_LABELS)
            if cells[start + number]
        ],
    )  # fmt: skip
    yield (
        "healthcare_http_request_seconds", "histogram", "Seconds from a request's headers to its answer.",
        [
            sample
            for labels, start in requests
            for sample in totals.histogram(start + metrics.REQUESTS_HISTOGRAM, labels)
        ],
    )  # fmt: skip
    yield (
        "healthcare_http_in_flight", "gauge", "Requests that are not answered yet.",
        plain(cells[metrics.IN_FLIGHT]),
    )  # fmt: skip
    yield (
        "healthcare_queue_seconds", "histogram", "Seconds that requests waited for a thread.",
        totals.histogram(metrics.QUEUE),
    )  # fmt: skip
    yield "healthcare_threads_busy", "gauge", "Threads that answer a request.", plain(cells[metrics.THREADS_BUSY])


def event_families(totals: Totals) -> Iterator[tuple[str, str, str, Samples]]:
    cells = totals.cells
    yield (
        "healthcare_database_errors_total", "counter", "Errors that the database reported, by SQLSTATE.",
        [
            ("", (("sqlstate", code),), cells[cell])
            for code, cell in metrics.SQLSTATE_CELLS.items()
            if cells[cell] or code in metrics.WATCHED_SQLSTATES
        ],
    )  # fmt: skip
    yield (
        "healthcare_throttled_total", "counter", "Requests answered by 429, by limit.",
        [("", (("limit", name),), cells[cell]) for name, cell in metrics.LIMIT_CELLS.items()],
    )  # fmt: skip
    yield (
        "healthcare_login_failures_total", "counter", "Logins with a wrong password or an unknown username.",
        plain(cells[metrics.LOGIN_FAILURES]),
    )  # fmt: skip
    yield (
        "healthcare_replica_reads_total", "counter", "Lists sent to a replica, by what became of them.",
        [("", (("outcome", name),), cells[cell]) for name, cell in metrics.REPLICA_READ_CELLS.items()],
    )  # fmt: skip
    yield (
        "healthcare_idempotent_replays_total", "counter", "Requests answered by the stored answer of their key.",
        plain(cells[metrics.IDEMPOTENT_REPLAYS]),
    )  # fmt: skip
    yield (
        "healthcare_worker_restarts_total", "counter", "Workers that were replaced.",
        plain(totals.restarts),
    )  # fmt: skip


def plain(value: float) -> Samples:
    return [("", (), value)]


def render_family(name: str, kind: str, text: str, samples: Samples) -> Iterator[str]:
    yield f"# HELP {name} {escape_help(text)}"
    yield f"# TYPE {name} {kind}"
    for suffix, labels, value in samples:
        inside = ",".join(f'{label}="{escape_label(content)}"' for label, content in labels)
        yield f"{name}{suffix}{{{inside}}} {value}" if labels else f"{name}{suffix} {value}"


def escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def escape_label(text: str) -> str:
    return escape_help(text).replace('"', r"\"")
