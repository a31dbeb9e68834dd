"""Metrics that are read from the database, by one thread of the process that serves them.

A scrape never waits for the database: it gets the last values, and none once they are old. A value that is not known
has no sample.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import DEFAULT_DB_ALIAS, Error, connection, connections, transaction

from healthcare.operations.metrics_text import Gauge
from healthcare.postgresql.session import Limits, set_timeouts

logger = logging.getLogger("healthcare.metrics")

READING_INTERVAL = 5.0  # seconds between two readings
LONGEST_VALUE_AGE = 30.0  # seconds for which a value counts
COUNT_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"

Values = Mapping[str, float | None]


@dataclass(frozen=True, eq=False)
class GaugeSource:
    """Reads some gauges in one transaction. `help_texts` has the name of each."""

    read: Callable[[], Values]
    help_texts: Mapping[str, str]


sources: list[GaugeSource] = []


def register_gauges(read: Callable[[], Values], **help_texts: str) -> None:
    """Let the gauges that have these names be read by `read`, which leaves out, or gives None for, what is unknown.

    Call it when the app is ready. `read` runs as the owner of the database, in a read-only transaction with a deadline.
    """
    sources.append(GaugeSource(read, help_texts))


def count_sessions() -> Values:
    with connection.cursor() as cursor:
        cursor.execute(COUNT_SESSIONS)
        return {"healthcare_database_connections": cursor.fetchone()[0]}


register_gauges(count_sessions, healthcare_database_connections="Sessions of the database, of all its clients.")


def reading_limits() -> Limits:
    return Limits(set_timeouts(statement="4s", lock="1s", idle="10s"), answer=6.0, connection=5.0)


class DatabaseGauges:
    """Reads every source again and again, in a thread of its own."""

    def __init__(self) -> None:
        self.read_at = time.monotonic()
        self.values: dict[str, float] = {}
        self.failing: set[GaugeSource] = set()

    def start(self) -> None:
        threading.Thread(target=self.run, name="database gauges", daemon=True).start()

    def run(self) -> None:
        database: Any = connections[DEFAULT_DB_ALIAS]  # of this thread
        while True:
            began = time.monotonic()
            database.set_limits(reading_limits())
            values = self.read_sources()
            connection.close_if_unusable_or_obsolete()
            self.values, self.read_at = values, began
            time.sleep(READING_INTERVAL)

    def current(self) -> list[Gauge]:
        """Every gauge that is known."""
        values = self.values if time.monotonic() - self.read_at < LONGEST_VALUE_AGE else {}
        texts = {name: text for source in sources for name, text in source.help_texts.items()}
        return [(name, texts[name], {(): value}) for name, value in sorted(values.items())]

    def read_sources(self) -> dict[str, float]:
        values: dict[str, float | None] = {}
        for source in sources:
            try:
                values.update(read_in_transaction(source))
                self.failing.discard(source)
            except Exception as error:
                if isinstance(error, Error) and (connection.connection is None or not connection.is_usable()):
                    break  # the others would wait in vain, too; /readyz tells why
                if source not in self.failing:
                    logger.warning("no values for %s: %s", ", ".join(source.help_texts), type(error).__name__)
                self.failing.add(source)
        return {name: float(value) for name, value in values.items() if value is not None}


def read_in_transaction(source: GaugeSource) -> Values:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
        return source.read()
