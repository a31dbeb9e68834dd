"""Rebuilds search, for example after an administrator has created the extensions that were missing."""

from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction

from healthcare.migration_operations import ROW_LOCK_TIMEOUT, execute_with_messages, retry_while_locked, rows_locked
from healthcare.search import staff_vocabulary, vocabulary
from healthcare.search.extensions import CREATE_EXTENSIONS, has_similarity
from healthcare.search.index import INDEXES, Index
from healthcare.search.normalization import FUNCTIONS
from healthcare.search.triggers import remove_words, synchronize

BATCH = 500  # records or words


class Command(BaseCommand):
    help = (
        "Rebuilds the search terms of every record with the extensions that exist by now, in small transactions, while "
        "the API goes on reading and writing. Until it has finished, a search may miss records."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if connection.in_atomic_block:
            raise CommandError("rebuild_search commits each batch and cannot run inside a transaction.")
        execute_with_messages(connection, CREATE_EXTENSIONS)
        execute_sql(FUNCTIONS)
        similarity = has_similarity()
        for index in INDEXES:
            if similarity:
                create_similarity_index(index.words, "owner, ")
            if similarity and index.known_words:
                create_similarity_index(index.known_words)
            execute_sql(vocabulary.create_near(index))
            if index.known_words:
                execute_sql(staff_vocabulary.create_near_for_staff(index))
            self.rebuild_terms(index)
            self.remove_unused_words(index)
        how = "similarity" if similarity else "the beginnings of words"
        self.stdout.write(f"Search finds names by {how}.")

    def rebuild_terms(self, index: Index) -> None:
        """Records that are created meanwhile get their terms from the trigger, which uses the new functions."""
        total, done, last = count_table_rows(index.table), 0, 0
        while keys := next_keys(index.table, last):
            retry_while_locked(partial(synchronize_batch, index, keys, last), rows_locked(index.table))
            done, last = done + len(keys), keys[-1]
            self.report(f"{index.table}: {done:,} of {max(total, done):,} records", done, len(keys))
        execute_sql(
            f"DELETE FROM {index.terms} WHERE record > %s AND NOT EXISTS ("  # noqa: S608  (names of our tables)
            f"SELECT FROM {index.table} WHERE id = record)",
            [last],
        )
        self.stdout.write(f"{index.table}: {done:,} records.")

    def remove_unused_words(self, index: Index) -> None:
        removed, last = 0, 0
        while keys := next_keys(index.words, last):
            last = keys[-1]
            unused = unused_words(index, keys)
            if unused:  # else no lock is needed
                retry_while_locked(partial(remove_batch, index, unused), rows_locked(index.words))
                removed += len(unused)
        if removed:
            self.stdout.write(f"{index.words}: {removed:,} words removed.")

    def report(self, text: str, done: int, step: int) -> None:
        """Progress: a line for every 10,000 records."""
        if done // 10_000 > (done - step) // 10_000:
            self.stdout.write(text)


def execute_sql(sql: str, parameters: list[Any] | None = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def count_table_rows(table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")  # noqa: S608
        return int(cursor.fetchone()[0])


def next_keys(table: str, last: int) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id FROM {table} WHERE id > %s ORDER BY id LIMIT %s", [last, BATCH])  # noqa: S608
        return [row[0] for row in cursor.fetchall()]


def create_similarity_index(table: str, before: str = "") -> None:
    """Create the GIN index on the columns `before` and the word unless there is a valid one, without a lock that stops
    writers."""
    name = f"{table}_similar"
    with connection.cursor() as cursor:
        cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", [name])
        found = cursor.fetchone()
        if found == (True,):
            return
        if found:  # an earlier attempt was interrupted
            cursor.execute(f"DROP INDEX CONCURRENTLY {name}")
        cursor.execute(
            "SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace "
            "WHERE extname = 'pg_trgm'"
        )
        (schema,) = cursor.fetchone()
        cursor.execute(
            f"CREATE INDEX CONCURRENTLY {name} ON {table} USING gin ({before}word {schema}.gin_trgm_ops) "
            "WITH (fastupdate = off)"
        )


def synchronize_batch(index: Index, keys: list[int], last: int) -> None:
    """Bring the terms of these records up to date, and remove those of records that do not exist with ids between."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{ROW_LOCK_TIMEOUT}'")
        # So that the terms written are those of the records as they stand until this transaction ends.
        cursor.execute(
            f"SELECT FROM {index.table} WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE",  # noqa: S608
            [keys],
        )
        cursor.execute(
            synchronize(index, "id = ANY(%(keys)s)", "had.record > %(last)s AND had.record <= %(upto)s"),
            {"keys": keys, "last": last, "upto": keys[-1]},
        )


def unused_words(index: Index, keys: list[int]) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT id FROM {index.words} words WHERE id = ANY(%s) AND NOT EXISTS ("  # noqa: S608
            f"SELECT FROM {index.terms} used WHERE used.owner = words.owner AND used.hidden IN (true, false) "
            "AND used.term = words.word)",
            [keys],
        )
        return [row[0] for row in cursor.fetchall()]


def remove_batch(index: Index, keys: list[int]) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{ROW_LOCK_TIMEOUT}'")
        cursor.execute(remove_words(index, "id = ANY(%s)"), [keys])
