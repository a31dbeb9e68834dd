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
