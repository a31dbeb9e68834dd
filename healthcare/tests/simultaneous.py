"""Calls that set off together, each from a thread of its own over a connection of its own."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from healthcare.tests.live import Answer


def at_once(*calls: Callable[[], Answer]) -> list[Answer]:
    """The answers in the order of the calls. No call begins before every thread is ready."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], Answer]) -> Answer:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def statuses(answers: Sequence[Answer]) -> list[int]:
    """The status codes in ascending order."""
    return sorted(answer.status for answer in answers)
