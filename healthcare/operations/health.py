"""Whether this process is ready: what /readyz answers (`healthcare.api.health_checks`).

A thread of each worker process evaluates readiness every `INTERVAL` seconds, each time over a new database session, so
that it sees what new sessions see. /readyz answers from the last result and never waits, even if the database hangs: a
result that is too old counts as a failed `database`.
"""

import logging
import threading
import time
from dataclasses import dataclass

from django.db import Error

from healthcare.operations.clock import database_clock
from healthcare.operations.readiness import CLOCK, DATABASE, INCOMPLETE, Failures, evaluate_in_new_session
from healthcare.postgresql.errors import is_unavailable, sqlstate_of

logger = logging.getLogger("healthcare.health")

INTERVAL, INTERVAL_AFTER_FAILURE = 2.0, 1.0  # seconds from the start of an evaluation to the next
INTERVAL_AFTER_SUSPICION = 0.5  # for requests that fail one after the other, while the database seems to be well
LONGEST_AGE = 4.8  # seconds; /readyz must be 503 within 5 seconds of a failure
RESULT_TIMEOUT = 3.0  # seconds that a starting worker, or a request after an error, waits for a result
DRAINING = "draining"
MOST_LOGGED = 10  # of what has been found missing
# What PostgreSQL answers if a role, privilege, schema, table, column or function is missing: access rule violations and
# undefined objects, an invalid schema name, and the invalid parameter that a missing role is.
OF_INCOMPLETE_DATABASE = ("42", "3F", "22023")


@dataclass(frozen=True)
class ReadinessResult:
    """The names of the failed checks in the order of `REMEDIES`, and when their evaluation began."""

    failed: tuple[str, ...]
    began: float  # time.monotonic()


class Monitor:
    """Evaluates readiness in a thread of its own. Start it after the process has forked."""

    def __init__(self) -> None:
        self.result: ReadinessResult | None = None
        self.draining = False
        self.thread: threading.Thread | None = None
        self.wanted = threading.Event()  # somebody waits for a new result
        self.stored = threading.Condition()

    def start(self) -> None:
        """Start the thread, and wait a moment for its first result, so that /readyz is right from the first request."""
        since = time.monotonic()
        self.thread = threading.Thread(target=self.run, name="health", daemon=True)
        self.thread.start()
        self.wait_for_result(since)

    @property
    def is_running(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    def run(self) -> None:
        while True:
            self.wanted.clear()
            began = time.monotonic()
            try:
                self.evaluate()
            except Exception as error:  # the result becomes too old, and the next evaluation may succeed
                logger.error("readiness cannot be evaluated", exc_info=error)
            interval = INTERVAL_AFTER_FAILURE if self.result and self.result.failed else INTERVAL
            self.wanted.wait(max(0, began + interval - time.monotonic()))

    def evaluate(self) -> None:
        began = time.monotonic()
        failures = evaluate_in_new_session()
        with self.stored:
            self.store(failures, began)
            self.stored.notify_all()

    def wait_for_result(self, since: float) -> None:
        """Wait a moment for an evaluation that has begun since then."""
        with self.stored:
            self.stored.wait_for(lambda: self.result is not None and self.result.began >= since, RESULT_TIMEOUT)

    def suspect(self) -> None:
        """Have the thread look at the database now, and not only after its interval: a request has just failed."""
        result = self.result
        if result and not result.failed and time.monotonic() - result.began >= INTERVAL_AFTER_SUSPICION:
            self.wanted.set()

    def evaluate_now(self) -> None:
        """Have the database looked at again, by the thread where there is one: requests then share an evaluation."""
        if self.is_running:
            since = time.monotonic()
            self.wanted.set()
            self.wait_for_result(since)
        else:
            self.evaluate()

    def store(self, failures: Failures, began: float) -> None:
        """Store the result of an evaluation, and log a change."""
        before = self.result.failed if self.result else ()
        self.result = ReadinessResult(tuple(failures), began)
        if failures and self.result.failed != before:
            found = [what for names in failures.values() for what in names]
            logger.warning("not ready: failed=%s found=%s", ",".join(failures), ", ".join(found[:MOST_LOGGED]) or "-")
        elif before and not failures:
            logger.warning("ready again")

    def failed(self) -> tuple[str, ...]:
        """The names of the failed checks; none while requests can succeed."""
        if self.draining:
            return (DRAINING,)
        if self.result is None or time.monotonic() - self.result.began > LONGEST_AGE:
            return (DATABASE,)
        if not self.result.failed and database_clock.differs():  # it was set since
            return (CLOCK,)
        return self.result.failed

    def clocks_differ(self) -> bool:
        """Whether no request can be right, because the clocks of this machine and of the database differ by too much.

        What an evaluation has not seen yet has the clocks compared again: the monotonic clock stands still while a
        machine sleeps, so after that they only seem to differ.
        """
        if not (database_clock.differs() and self.is_running):
            return False
        if self.result is None or CLOCK not in self.result.failed:
            self.evaluate_now()
        return database_clock.differs()

    def has_found_gaps(self) -> bool:
        """Whether the last evaluation has found that the database lacks something, or could not look."""
        return self.result is not None and not INCOMPLETE.isdisjoint(self.result.failed)


monitor = Monitor()


def is_fault_of_database(error: BaseException) -> bool:
    """Whether the database, and neither the request nor the code, is the cause of an exception: the answer is 503.

    What looks like a missing role, privilege or table has the database looked at before the answer. If that finds
    nothing missing, the code is wrong, and the answer is a 500 with a traceback in the log.
    """
    if is_unavailable(error):
        monitor.suspect()
        return True
    if not isinstance(error, Error) or not (sqlstate_of(error) or "").startswith(OF_INCOMPLETE_DATABASE):
        return False
    if not (monitor.is_running and monitor.has_found_gaps()):
        monitor.evaluate_now()
    return monitor.has_found_gaps()
