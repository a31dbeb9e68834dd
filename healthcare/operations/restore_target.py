"""The database that a backup is restored into: empty before, and after a failure."""

from typing import Any

from django.db import Error, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from healthcare.embedded.base import DatabaseWrapper as EmbeddedDatabase
from healthcare.operations.backup_errors import BackupError

RESTORE_LOCK_KEY = 7_234_150_943  # an advisory lock: one restore of a database at a time
# Everything that belongs neither to PostgreSQL nor to an extension: its kind, its name and the statement that drops it.
SELECT_OBJECTS = """
WITH schemas AS (
    SELECT oid FROM pg_namespace WHERE nspname <> 'information_schema' AND nspname !~ '^pg_'
), members AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e')
SELECT kind, name, format('DROP %s IF EXISTS %s CASCADE', upper(kind), name) FROM (
    SELECT 1 AS place, CASE relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence'
        WHEN 'f' THEN 'foreign table' ELSE 'table' END AS kind, class.oid::regclass::text AS name
    FROM pg_class class
    WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND relnamespace IN (SELECT oid FROM schemas)
    AND ('pg_class'::regclass::oid, class.oid) NOT IN (SELECT * FROM members)
    UNION ALL
    SELECT 2, 'routine', routine.oid::regprocedure::text FROM pg_proc routine
    WHERE pronamespace IN (SELECT oid FROM schemas)
    AND ('pg_proc'::regclass::oid, routine.oid) NOT IN (SELECT * FROM members)
    UNION ALL
    SELECT 3, CASE typtype WHEN 'd' THEN 'domain' ELSE 'type' END, type.oid::regtype::text FROM pg_type type
    WHERE typnamespace IN (SELECT oid FROM schemas) AND typtype IN ('d', 'e', 'r')
    AND ('pg_type'::regclass::oid, type.oid) NOT IN (SELECT * FROM members)
) objects ORDER BY place, kind <> 'table', name
"""


def lock_for_restore(connection: BaseDatabaseWrapper) -> None:
    """Until the transaction ends. Raises BackupError if another restore runs."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [RESTORE_LOCK_KEY])
        if cursor.fetchone() != (True,):
            raise BackupError("Another restore into this database runs.")


def check_empty(connection: BaseDatabaseWrapper) -> None:
    """Empty schemas and extensions may be there. Raises BackupError if anything else is."""
    with connection.cursor() as cursor:
        cursor.execute(SELECT_OBJECTS)
        found = cursor.fetchall()
    if found:
        kind, name, _ = found[0]
        others = f" and {len(found) - 1} other objects" if len(found) > 1 else ""
        where = (
            "choose a new folder with DATABASE_URL=embedded:///some/folder"
            if isinstance(connection, EmbeddedDatabase)
            else "create a new database and name it in DATABASE_URL"
        )
        raise BackupError(f"The database is not empty: it has the {kind} {name}{others}; {where}.")


def make_empty(connection: Any) -> None:
    """Drop what `check_empty` would refuse."""
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute(SELECT_OBJECTS)
        for _, _, statement in cursor.fetchall():
            cursor.execute(statement)


def find_absent_extensions(connection: BaseDatabaseWrapper, wanted: dict[str, str]) -> set[str]:
    """Those that are installed in another schema, and those that the database user may not or cannot create."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT extname, nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace")
        installed = dict(cursor.fetchall())
    return {
        name
        for name, schema in wanted.items()
        if (installed[name] != schema if name in installed else not can_create(connection, name))
    }


def can_create(connection: BaseDatabaseWrapper, extension: str) -> bool:
    try:
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            cursor.execute(f"CREATE EXTENSION {connection.ops.quote_name(extension)}")
            transaction.set_rollback(True, using=connection.alias)
    except Error:
        return False
    return True


def enable_triggers(connection: BaseDatabaseWrapper) -> None:
    """A trigger that was switched off when the backup was written is in it as such."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT format('ALTER TABLE %s ENABLE TRIGGER %I', tgrelid::regclass, tgname) FROM pg_trigger "
            "WHERE tgenabled = 'D' AND NOT tgisinternal"
        )
        for (statement,) in cursor.fetchall():
            cursor.execute(statement)
