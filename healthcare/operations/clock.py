"""How far the clock of this machine is from that of the database server.

Sessions, the ends of tokens and the times of records are compared across the two. While they differ by more than
CLOCK_DIFFERENCE_SECONDS, nothing of that can be right: `manage.py serve` answers 503, and commands that judge by age
refuse. The difference is known at any moment without asking the database: what its clock shows now follows from its
last reading and from the time that has passed since, by the monotonic clock, which nobody can set.
"""

import time

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

READ_CLOCK = "extract(epoch FROM clock_timestamp())::float8"


class DatabaseClock:
    """The clock of the database server, as it was read last."""

    def __init__(self) -> None:
        self.ahead_of_monotonic: float | None = None  # seconds since 1970 minus `time.monotonic()`

    def set(self, epoch: float, asked_at: float) -> None:
        """Take a reading that was asked for at this time of `time.monotonic`. It was made between then and now."""
        self.ahead_of_monotonic = epoch - (asked_at + time.monotonic()) / 2

    def difference(self) -> float:
        """The seconds by which the clock of this machine is ahead; 0 as long as there is no reading."""
        ahead = self.ahead_of_monotonic
        return 0.0 if ahead is None else time.time() - time.monotonic() - ahead

    def differs(self) -> bool:
        """Whether the clocks differ by too much."""
        return 0 < settings.CLOCK_DIFFERENCE_SECONDS < abs(self.difference())

    def describe(self) -> str:
        difference = self.difference()
        return f"clock {abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} the database server's"


database_clock = DatabaseClock()


def read_difference(database: BaseDatabaseWrapper) -> float:
    """Ask the database, for the seconds by which the clock of this machine is ahead."""
    clock, asked_at = DatabaseClock(), time.monotonic()
    with database.cursor() as cursor:
        cursor.execute(f"SELECT {READ_CLOCK}")
        clock.set(cursor.fetchone()[0], asked_at)
    return clock.difference()


def check_clock() -> None:
    """For a command that judges by age. Raises CommandError if the clocks differ by too much."""
    difference = read_difference(connection)
    if 0 < settings.CLOCK_DIFFERENCE_SECONDS < abs(difference):
        raise CommandError(
            f"The clock of this machine is {abs(difference):.0f} seconds {'ahead of' if difference > 0 else 'behind'} "
            "that of the database server; nothing was changed. Set the wrong one right, then run it again."
        )
