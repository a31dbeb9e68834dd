"""Writes a batch of new records: COPY into a temporary table, and one INSERT … SELECT from there.

PostgreSQL's COPY does not write to a table with row-level security, and a statement for each row would run the
statement-level triggers of history and search once a row.
"""

import datetime
import io
from collections.abc import Iterable, Sequence
from types import NoneType
from typing import Any

from django.db import connection
from django.db.models import (
    BigIntegerField,
    BooleanField,
    CharField,
    DateField,
    DateTimeField,
    Field,
    ForeignKey,
    Model,
    PositiveIntegerField,
    PositiveSmallIntegerField,
    TextField,
)
from django.utils import timezone

from healthcare.rls import ROLE
from healthcare.rls.context import without_role

COPY_BLOCK_SIZE = 1024 * 1024  # characters; psycopg2 takes the GIL again for each block
COPY_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
PLAIN_TYPES: dict[type[Field], tuple[type, ...]] = {
    ForeignKey: (int, NoneType),
    BigIntegerField: (int, NoneType),
    PositiveIntegerField: (int, NoneType),
    PositiveSmallIntegerField: (int, NoneType),
    BooleanField: (bool, NoneType),
    DateField: (datetime.date, NoneType),
    DateTimeField: (NoneType,),
}


class BatchTable:
    """A temporary table with the columns of a model, of one transaction. Rows are numbered by their `position`."""

    def __init__(self, model: type[Model]) -> None:
        meta = model._meta
        self.table, self.name = meta.db_table, f"import_{meta.model_name}"
        key = meta.pk
        self.key = key.column
        times = [field for field in meta.concrete_fields if is_set_to_now(field)]
        fields = [field for field in meta.concrete_fields if field is not key and field not in times]
        self.steps = [(field, field.attname, stored_as_they_are(field)) for field in fields]
        self.copied = quoted_columns(fields)
        self.columns = quoted_columns([*fields, *times])
        self.selected = ", ".join([self.copied, *["%(now)s"] * len(times)])

    def create(self) -> None:
        """Create it with the rights of the login, and let the role of requests use it."""
        with without_role(), connection.cursor() as cursor:
            cursor.execute(f'DROP TABLE IF EXISTS pg_temp."{self.name}"')
            cursor.execute(
                f'CREATE TEMPORARY TABLE "{self.name}" ON COMMIT DROP AS '  # noqa: S608  (names of our models)
                f'SELECT 0 AS position, {self.copied} FROM "{self.table}" WITH NO DATA'
            )
            cursor.execute(f'GRANT SELECT, INSERT, TRUNCATE ON pg_temp."{self.name}" TO {ROLE}')

    def text_of(self, record: Any) -> str:
        """The columns of an unsaved record in the text format of COPY. Runs no query."""
        values = vars(record)
        cells = []
        for field, name, plain in self.steps:
            value = values.get(name)
            if type(value) in plain and (type(value) is not str or value.isascii()):
                cells.append(copy_text(value))
            else:
                cells.append(copy_text(field.get_db_prep_save(field.pre_save(record, True), connection)))
        return "\t".join(cells)

    def fill(self, texts: Iterable[str]) -> None:
        """Replace its rows by records, given by `text_of` and numbered from 0."""
        self.now = timezone.now()  # one time for the whole batch
        lines = "".join(f"{position}\t{text}\n" for position, text in enumerate(texts))
        copy = f'COPY pg_temp."{self.name}" (position, {self.copied}) FROM STDIN'
        with connection.cursor() as cursor:
            cursor.execute(f'TRUNCATE pg_temp."{self.name}"')
            cursor.copy_expert(copy, io.StringIO(lines), COPY_BLOCK_SIZE)

    def insert(self, first: int, last: int) -> list[int]:
        """Insert the records from position `first` to before `last`, and return their ids in this order.

        Raises IntegrityError or DataError if one of them breaks a rule of the table.
        """
        with connection.cursor() as cursor:
            cursor.execute(
                f'INSERT INTO "{self.table}" ({self.columns}) SELECT {self.selected} FROM pg_temp."{self.name}" '  # noqa: S608
                "WHERE position >= %(first)s AND position < %(last)s ORDER BY position "
                f'RETURNING "{self.key}"',
                {"first": first, "last": last, "now": self.now},
            )
            # The sequence counts up within the statement, which inserts in the order of the positions.
            return sorted(row[0] for row in cursor.fetchall())

    def drop(self) -> None:
        with without_role(), connection.cursor() as cursor:
            cursor.execute(f'DROP TABLE IF EXISTS pg_temp."{self.name}"')


def refresh_statistics(tables: Sequence[str], created: int) -> None:
    """Let PostgreSQL look at tables that have doubled within this transaction, which autovacuum cannot see yet.

    Without that, an import into an empty database searches its own rows by plans for no rows, one after another.
    """
    with without_role(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE oid = ANY (%s::regclass[]) AND reltuples * 2 <= %s",
            [[*tables], created],
        )
        grown = ", ".join(f'"{name}"' for (name,) in cursor.fetchall())
        if grown:
            cursor.execute(f"ANALYZE (SKIP_LOCKED) {grown}")


def stored_as_they_are(field: Field) -> frozenset[type]:
    """The types whose values are stored as they are; of texts those in ASCII, which what normalizes texts
    (`healthcare.model_fields`) leaves as they are."""
    names = ("pre_save", "get_db_prep_save", "get_db_prep_value")
    if isinstance(field, CharField | TextField):
        standard = all(getattr(type(field), name) is getattr(Field, name) for name in names)
        return frozenset({str} if standard else ())
    return frozenset(PLAIN_TYPES.get(type(field), ()))


def quoted_columns(fields: Iterable[Field]) -> str:
    return ", ".join(f'"{field.column}"' for field in fields)


def is_set_to_now(field: Field) -> bool:
    """Whether `Model.save` writes the present time."""
    return getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False)


def copy_text(value: Any) -> str:
    """A value in the text format of COPY."""
    if value is None:
        return "\\N"
    if isinstance(value, str):
        # Translating takes ten times as long.
        return value if value.isprintable() and "\\" not in value else value.translate(COPY_ESCAPES)
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, datetime.date | datetime.datetime):
        return value.isoformat()
    if hasattr(value, "adapted"):  # the driver's wrapper of JSON
        return str(value.dumps(value.adapted)).translate(COPY_ESCAPES)
    return str(value).translate(COPY_ESCAPES)
