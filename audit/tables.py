"""The tables that the seals cover, read in batches and without a lock that would stop a writer."""

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

FIRST = -(2**63)  # below every id
BATCH = 1000  # rows
PATIENCE = 300  # seconds to wait for transactions under way


class Row(NamedTuple):
    id: int
    at: datetime.datetime
    text: str  # canonical: the columns as jsonb writes them, times in UTC


@dataclass(frozen=True)
class Table:
    name: str
    key: str
    time: str
    columns: tuple[str, ...]

    @classmethod
    def of(cls, model: type[Model]) -> "Table":
        event = issubclass(model, Event)
        columns = tuple(sorted(str(field.column) for field in model._meta.concrete_fields))
        return cls(model._meta.db_table, "pgh_id" if event else "id", "pgh_created_at" if event else "at", columns)

    def rows(self, after: int, until: int, columns: tuple[str, ...], limit: int | None = None) -> list[Row]:
        """The rows with ids in (after, until], in order of their ids, with the text of these columns."""
        names = ", ".join(connection.ops.quote_name(column) for column in columns)
        with connection.cursor() as cursor:
            cursor.execute(
                f'SELECT "{self.key}", "{self.time}", (SELECT to_jsonb(picked) FROM (SELECT {names}) picked)::text '  # noqa: S608
                f'FROM "{self.name}" WHERE "{self.key}" > %s AND "{self.key}" <= %s ORDER BY "{self.key}" LIMIT %s',
                [after, until, limit],
            )
            return [Row(*row) for row in cursor.fetchall()]

    def settled(self) -> int:
        """An id up to which no row can appear any more, but by tampering.

        Who inserts locks the table before it draws an id, and until it commits. So the ids up to the largest now seen
        are settled when all who hold that lock now have ended; others go on writing meanwhile. Raises CommandError
        when one of them does not end in time.
        """
        with connection.cursor() as cursor:
            cursor.execute(f'SELECT coalesce(max("{self.key}"), %s) FROM "{self.name}"', [FIRST])  # noqa: S608
            largest: int = cursor.fetchone()[0]
            writers, give_up = self.writers(), time.monotonic() + PATIENCE
            while writers & self.writers():
                if time.monotonic() > give_up:
                    raise CommandError(
                        f"A transaction that writes to {self.name} does not end; see pg_stat_activity, then try again."
                    )
                time.sleep(0.05)
        return largest

    def writers(self) -> set[str]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT virtualtransaction FROM pg_locks WHERE relation = %s::regclass AND mode = 'RowExclusiveLock' "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
                "AND pid <> pg_backend_pid()",
                [connection.ops.quote_name(self.name)],
            )
            return {row[0] for row in cursor.fetchall()}

    def after(self, last: int) -> Iterator[Row]:
        """The rows beyond an id, in batches."""
        while rows := self.rows(last, 2**63 - 1, (), BATCH):
            yield from rows
            last = rows[-1].id


def sealed_tables() -> list[Table]:
    models: list[type[Model]] = [AccessLog, Forgotten]
    events = [model for model in apps.get_models() if issubclass(model, Event)]
    return [Table.of(model) for model in [*events, *models]]
