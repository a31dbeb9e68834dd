"""Concurrent HTTP calls, each from its own thread over its own connection."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from healthcare.tests.live import Answer


def call_concurrently(*calls: Callable[[], Answer]) -> list[Answer]:
    """Run all calls at the same time and return their answers in the order of the calls.

    No call starts before every thread is ready.
    """
    barrier = Barrier(len(calls))

    def run(call: Callable[[], Answer]) -> Answer:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def sorted_statuses(answers: Sequence[Answer]) -> list[int]:
    """Return the status codes in ascending order."""
    return sorted(answer.status for answer in answers)
