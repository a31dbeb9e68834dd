"""The tables that the seals cover, read in batches and without a lock that would block writers."""

import datetime
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from django.apps import apps
from django.core.management.base import CommandError
from django.db import connection
from django.db.models import Model

from audit.history import Event
from audit.models import AccessLog, Forgotten
from healthcare.model_fields import LARGEST_ID

BELOW_EVERY_ID = -(2**63)
ROWS_PER_READ = 1000  # rows
SETTLE_TIMEOUT = 300  # seconds
UNSEALED = {"pgh_owner_id"}  # who owns an event now, which a transfer changes: see `audit.history.OwnedEvent`


class SealedRow(NamedTuple):
    id: int
    at: datetime.datetime
    text: str  # the columns in jsonb's canonical form, times in UTC


@dataclass(frozen=True)
class Table:
    name: str
    key: str
    time: str
    columns: tuple[str, ...]

    @classmethod
    def of(cls, model: type[Model]) -> "Table":
        event = issubclass(model, Event)
        columns = tuple(
            sorted(str(field.column) for field in model._meta.concrete_fields if field.column not in UNSEALED)
        )
        return cls(model._meta.db_table, "pgh_id" if event else "id", "pgh_created_at" if event else "at", columns)

    def rows(self, after: int, until: int, columns: tuple[str, ...], limit: int | None = None) -> list[SealedRow]:
        """The rows with an id above `after` and up to `until`, ordered by id, with the text of these columns."""
        names = ", ".join(connection.ops.quote_name(column) for column in columns)
        with connection.cursor() as cursor:
            cursor.execute(
                f'SELECT "{self.key}", "{self.time}", (SELECT to_jsonb(picked) FROM (SELECT {names}) picked)::text '  # noqa: S608
                f'FROM "{self.name}" WHERE "{self.key}" > %s AND "{self.key}" <= %s ORDER BY "{self.key}" LIMIT %s',
                [after, until, limit],
            )
            return [SealedRow(*row) for row in cursor.fetchall()]

    def settled(self) -> int:
        """An id up to which no transaction will insert a row any more.

        An INSERT takes a ROW EXCLUSIVE lock on the table before it draws an id from the sequence, and holds it until
        it commits. So the largest id visible now is settled once every transaction that holds the lock now has ended.
        Later transactions are not blocked. Raises CommandError after SETTLE_TIMEOUT.
        """
        with connection.cursor() as cursor:
            cursor.execute(f'SELECT coalesce(max("{self.key}"), %s) FROM "{self.name}"', [BELOW_EVERY_ID])  # noqa: S608
            largest: int = cursor.fetchone()[0]
            writers, deadline = self.writers(), time.monotonic() + SETTLE_TIMEOUT
            while writers & self.writers():
                if time.monotonic() > deadline:
                    raise CommandError(
                        f"A transaction that writes to {self.name} does not end; see pg_stat_activity, then try again."
                    )
                time.sleep(0.05)
        return largest

    def writers(self) -> set[str]:
        """The virtual transaction ids of the other sessions that write to the table."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT virtualtransaction FROM pg_locks WHERE relation = %s::regclass AND mode = 'RowExclusiveLock' "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
                "AND pid <> pg_backend_pid()",
                [connection.ops.quote_name(self.name)],
            )
            return {row[0] for row in cursor.fetchall()}

    def rows_after(self, last: int) -> Iterator[SealedRow]:
        """All rows with an id above `last`, fetched in batches, without their texts."""
        while rows := self.rows(last, LARGEST_ID, (), ROWS_PER_READ):
            yield from rows
            last = rows[-1].id


def sealed_tables() -> list[Table]:
    models: list[type[Model]] = [AccessLog, Forgotten]
    events = [model for model in apps.get_models() if issubclass(model, Event)]
    return [Table.of(model) for model in [*events, *models]]
