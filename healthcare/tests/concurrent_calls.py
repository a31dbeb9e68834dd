"""Concurrent HTTP calls, each from its own thread over its own connection."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from healthcare.server.handler import QUEUE_RETRY_AFTER
from healthcare.tests.live import Answer


def call_concurrently(*calls: Callable[[], Answer]) -> list[Answer]:
    """Run all calls at the same time and return their answers in the order of the calls.

    No call starts before every thread is ready. Each is repeated until the server has run it.
    """
    barrier = Barrier(len(calls))

    def run(call: Callable[[], Answer]) -> Answer:
        barrier.wait()
        return until_run(call)

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def until_run(call: Callable[[], Answer]) -> Answer:
    """Repeat a call that the server's queue refuses without running it, as a client does: on a busy machine a request
    can wait for longer than the queue lets it. Any other 503 is returned."""
    for _ in range(100):
        answer = call()
        if answer.status != 503 or answer.headers["Retry-After"] != QUEUE_RETRY_AFTER:
            return answer
        time.sleep(0.2)
    return answer


def sorted_statuses(answers: Sequence[Answer]) -> list[int]:
    """Return the status codes in ascending order."""
    return sorted(answer.status for answer in answers)
