"""Migration operations for any app. Each takes its SQL as text, so that a migration never changes its meaning."""

import sys
from typing import Any

from django.core.management.base import CommandError
from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import RunSQL

# The SQLSTATE of an exception whose text tells the person who runs the command what to do. PostgreSQL reserves no
# class HC.
MESSAGE_SQLSTATE = "HC001"


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
