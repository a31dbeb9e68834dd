"""Migration operations for any app. Each takes its SQL as text, so that a migration never changes its meaning."""

import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.contrib.postgres import operations as postgres
from django.core.management.base import CommandError
from django.db import DatabaseError, OperationalError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import RunSQL
from django.db.migrations.operations.base import Operation, OperationCategory

# The SQLSTATE of an exception whose text tells the person who runs the command what to do. PostgreSQL reserves no
# class HC.
MESSAGE_SQLSTATE = "HC001"
# Of a command that changes rows in batches. Shorter than PostgreSQL's deadlock_timeout (1 s) and the API's lock_timeout
# (2 s): when the command and a writer wait for each other, the command gives up first and tries the batch again.
ROW_LOCK_TIMEOUT = "300ms"
LOCK_PATIENCE = 300.0  # seconds
RETRIED = frozenset({"55P03", "40P01"})  # SQLSTATE of a lock timeout and of a deadlock
PROGRESS_ROWS = 10_000
Returned = TypeVar("Returned")


class RunSQLWithMessages(RunSQL):
    """Runs SQL that reports to the person who migrates.

    `RAISE WARNING` is written to stderr. `RAISE EXCEPTION USING ERRCODE = 'HC001'` becomes a CommandError, which
    `migrate` prints without a traceback.
    """

    def _run_sql(self, schema_editor: BaseDatabaseSchemaEditor, sqls: Any) -> None:
        if sqls == RunSQL.noop:
            return
        if schema_editor.collect_sql:  # `sqlmigrate` prints the SQL
            schema_editor.execute(sqls, params=None)
        else:
            execute_with_messages(schema_editor.connection, sqls)


class CreateDatabaseObject(RunSQLWithMessages):
    """Creates a declared database object, or replaces it with another version; see `healthcare.database_objects`."""

    def __init__(self, name: str, sql: str, reverse_sql: str) -> None:
        super().__init__(sql, reverse_sql)
        self.name = name

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__qualname__, [self.name, self.sql, self.reverse_sql], {}

    def state_forwards(self, app_label: str, state: Any) -> None:
        objects = getattr(state, "database_objects", {})
        state.database_objects = {**objects, (app_label, self.name): (self.sql, self.reverse_sql)}

    def describe(self) -> str:
        return f"Create or replace {self.name}"

    @property
    def migration_name_fragment(self) -> str:
        return self.name


class DropDatabaseObject(CreateDatabaseObject):
    """Drops an object that is declared no more; `sql` drops it and `reverse_sql` creates it."""

    def state_forwards(self, app_label: str, state: Any) -> None:
        objects = dict(getattr(state, "database_objects", {}))
        objects.pop((app_label, self.name), None)
        state.database_objects = objects

    def describe(self) -> str:
        return f"Drop {self.name}"


def execute_with_messages(connection: BaseDatabaseWrapper, sql: str) -> None:
    """Execute `sql` as `RunSQLWithMessages` does."""
    with connection.cursor() as cursor:
        connection.connection.notices.clear()
        try:
            cursor.execute(sql)
        except DatabaseError as error:
            if getattr(error.__cause__, "pgcode", None) == MESSAGE_SQLSTATE:
                raise CommandError(error.__cause__.diag.message_primary) from None  # type: ignore[union-attr]
            raise
        finally:
            notices = list(connection.connection.notices)
    for notice in notices:
        severity, _, text = notice.partition(":")
        if severity == "WARNING":
            sys.stderr.write(text.strip() + "\n")


class AddIndexConcurrently(postgres.AddIndexConcurrently):
    """Django's operation, which can start over: the invalid index of an interrupted attempt is dropped first, and a
    valid one, of an attempt that ended before it was recorded, stays."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        with schema_editor.connection.cursor() as cursor:
            cursor.execute(
                "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)",
                [schema_editor.quote_name(self.index.name)],
            )
            found = cursor.fetchone()
        if found == (True,):
            return
        if found:
            schema_editor.execute(f"DROP INDEX CONCURRENTLY {schema_editor.quote_name(self.index.name)}")
        super().database_forwards(app_label, schema_editor, from_state, to_state)


class AddExpressionIndexConcurrently(AddIndexConcurrently):
    """The same for an index whose first column is an expression. The planner keeps its default for that, 200 values,
    instead of the number that ANALYZE finds: the few owners of a new installation must not change its plans."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        super().database_forwards(app_label, schema_editor, from_state, to_state)
        schema_editor.execute(
            f"ALTER INDEX {schema_editor.quote_name(self.index.name)} ALTER COLUMN 1 SET STATISTICS 0"
        )


class Backfill(postgres.NotInTransactionMixin, Operation):
    """Fills columns of existing rows, in batches that lock their rows briefly.

    `assignments` and `where` are SQL, as in `UPDATE table SET assignments WHERE where`. `where` holds for the rows that
    are not filled yet, and for no others, so that an interrupted backfill continues. It changes nothing that clients
    see as a change: no history, no new `version` or `updated_at`. Rows that the old version of the application writes
    meanwhile are not filled unless a trigger, or the default of the column, does it.
    """

    reduces_to_sql = False
    reversible = True
    category = OperationCategory.SQL

    def __init__(self, table: str, assignments: str, where: str, batch: int = 500) -> None:
        self.table, self.assignments, self.where, self.batch = table, assignments, where, batch

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        arguments = {"table": self.table, "assignments": self.assignments, "where": self.where, "batch": self.batch}
        return type(self).__qualname__, [], arguments

    def state_forwards(self, app_label: str, state: Any) -> None:
        pass

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """The rows stay filled."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        self._ensure_not_in_transaction(schema_editor)
        connection = schema_editor.connection
        last = done = 0
        while keys := self.next_keys(connection, last):
            started = time.monotonic()
            retry_while_locked(lambda keys=keys: self.fill(connection, keys), rows_locked(self.table))  # type: ignore[misc]
            last, before, done = keys[-1], done, done + len(keys)
            if done // PROGRESS_ROWS > before // PROGRESS_ROWS:
                sys.stderr.write(f"{self.table}: {done:,} rows filled.\n")
            time.sleep(min(time.monotonic() - started, 1))  # at most half of the server's disk and processor

    def next_keys(self, connection: BaseDatabaseWrapper, last: int) -> list[int]:
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT id FROM {self.table} WHERE id > {last} AND ({self.where}) ORDER BY id LIMIT {self.batch}"  # noqa: S608
            )
            return [row[0] for row in cursor.fetchall()]

    def fill(self, connection: BaseDatabaseWrapper, keys: list[int]) -> None:
        ids = ", ".join(map(str, keys))
        with transaction.atomic(connection.alias), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{ROW_LOCK_TIMEOUT}'; SET LOCAL app.backfill = 'on'")
            cursor.execute(f"SELECT FROM {self.table} WHERE id IN ({ids}) ORDER BY id FOR NO KEY UPDATE")  # noqa: S608
            cursor.execute(f"UPDATE {self.table} SET {self.assignments} WHERE id IN ({ids}) AND ({self.where})")  # noqa: S608

    def describe(self) -> str:
        return f"Fill {self.assignments.partition('=')[0].strip()} of {self.table} in batches"

    @property
    def migration_name_fragment(self) -> str:
        return f"fill_{self.table}"


def rows_locked(table: str) -> str:
    return (
        f"Transactions hold locks on rows of {table} for long. Wait for them or end them (pg_stat_activity), then run "
        "the command again; it continues."
    )


def retry_while_locked(work: Callable[[], Returned], error_text: str, pause: float = 0.1) -> Returned:
    """Run a transaction again while others hold the locks that it needs. Returns its result.

    Raises CommandError with the text after five minutes.
    """
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            return work()
        except OperationalError as error:
            if getattr(error.__cause__, "pgcode", None) not in RETRIED:
                raise
        if time.monotonic() > deadline:
            raise CommandError(error_text)
        time.sleep(pause)
