"""Progress of what takes long, for the person who waits for it."""

import time
from collections.abc import Callable

PROGRESS_INTERVAL = 5.0  # seconds


def at_intervals(report: Callable[[str], None]) -> Callable[[str], None]:
    """A `report` that can be called for every step: it passes a text on at most every five seconds."""
    reported = time.monotonic()

    def report_at_intervals(text: str) -> None:
        nonlocal reported
        if time.monotonic() - reported > PROGRESS_INTERVAL:
            reported = time.monotonic()
            report(text)

    return report_at_intervals
