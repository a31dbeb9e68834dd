"""Writes a backup of the database into one new file (healthcare.operations.backup_file).

One snapshot serves all: pg_dump reads it, and so do the counts of rows that a restore is compared with.
"""

import datetime
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, Error, connection, connections, transaction

from healthcare.operations.backup_errors import BackupError, describe_database_error
from healthcare.operations.backup_file import BACKUP_FORMAT, PART, BackupWriter, Manifest
from healthcare.operations.backup_parts import BACKUP_PARTS
from healthcare.operations.encryption import encrypted_to, parse_recipient
from healthcare.operations.models import Backup
from healthcare.operations.programs import (
    connection_arguments,
    find_pg_dump,
    find_reason,
    killed_at_the_end,
    server_major,
    termination_unwinds,
)
from healthcare.operations.progress import at_intervals
from healthcare.operations.unfinished_file import check_target, unfinished_file
from healthcare.postgresql.session import REMOVE_TIMEOUTS

LOCK_WAIT = "60s"  # while a migration alters a table
# Partitions are counted by their partitioned table; what extensions own comes with them.
COUNTED_TABLES = """
SELECT quote_ident(nspname) || '.' || quote_ident(relname)
FROM pg_class class JOIN pg_namespace namespace ON namespace.oid = relnamespace
WHERE relkind IN ('r', 'p') AND NOT relispartition AND relpersistence <> 't'
AND nspname <> 'information_schema' AND nspname !~ '^pg_'
AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = class.oid AND deptype = 'e')
ORDER BY 1
"""
SELECT_EXTENSIONS = """
SELECT extname, nspname FROM pg_extension JOIN pg_namespace namespace ON namespace.oid = extnamespace
WHERE extname <> 'plpgsql'
"""
SELECT_EXTENSION_INDEXES = """
SELECT extname, array_agg(DISTINCT relname::text)
FROM pg_extension extension
JOIN pg_depend member ON member.refclassid = 'pg_extension'::regclass AND member.refobjid = extension.oid
    AND member.deptype = 'e'
JOIN pg_depend needs ON (needs.refclassid, needs.refobjid) = (member.classid, member.objid)
    AND needs.classid = 'pg_class'::regclass
JOIN pg_class index ON index.oid = needs.objid AND relkind IN ('i', 'I')
GROUP BY extname
"""


@dataclass(frozen=True)
class Report:
    rows: int
    tables: int
    size: int  # bytes of the file


def create_backup(target: Path, recipients: Sequence[str], report: Callable[[str], None]) -> Report:
    """Write the backup to a new file. Raises BackupError; then there is no file.

    `recipients` are the public keys that can decrypt it; without any it is not encrypted.
    """
    keys = [parse_recipient(recipient) for recipient in recipients]
    check_target(target)
    try:
        with termination_unwinds(connections[DEFAULT_DB_ALIAS]):
            manifest, size = write_backup(target, keys, report)
            record_backup(manifest, size, bool(keys), report)
    except OSError as error:
        raise BackupError(f"{target} could not be written: {error.strerror or error}.") from error
    except Error as error:
        raise BackupError(f"The database could not be read: {describe_database_error(error)}.") from error
    return Report(sum(manifest.tables.values()), len(manifest.tables), size)


def write_backup(target: Path, keys: list[Any], report: Callable[[str], None]) -> tuple[Manifest, int]:
    connection.ensure_connection()
    pg_dump, major = find_pg_dump(connection), server_major(connection)
    with unfinished_file(target) as file:
        with transaction.atomic():
            snapshot = begin_snapshot()
            report("Counting rows…")
            manifest = describe_database(major)
            with (
                encrypted_to(keys, file) as stream,
                closing(BackupWriter(stream, manifest, time.time())) as archive,
            ):
                dump_database(pg_dump, snapshot, archive, report)
                archive.finish(settings.AUDIT_SEAL_KEY)
        file.flush()
        size = file.tell()
    return manifest, size


def record_backup(manifest: Manifest, size: int, encrypted: bool, report: Callable[[str], None]) -> None:
    """Record the time for `healthcare_backup_age_seconds`. The file is complete without that."""
    try:
        Backup.objects.create(taken_at=manifest.taken_at, size=size, encrypted=encrypted)
    except Error as error:
        report(f"The backup is complete, but its time could not be recorded: {describe_database_error(error)}.")


def begin_snapshot() -> str:
    """Let this transaction read one snapshot, however long it takes, and return its name."""
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute(REMOVE_TIMEOUTS)
        cursor.execute("SELECT pg_export_snapshot()")
        return str(cursor.fetchone()[0])


def describe_database(major: int) -> Manifest:
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        (taken_at,) = cursor.fetchone()
        cursor.execute("SELECT to_regclass('public.django_migrations') IS NOT NULL")
        if cursor.fetchone() == (False,):
            raise BackupError("The database has no tables of this project; run `python3 manage.py migrate` first.")
        cursor.execute("SELECT app, name FROM public.django_migrations ORDER BY id")
        migrations = [list(row) for row in cursor.fetchall()]
        tables = count_rows_by_table()
        cursor.execute(SELECT_EXTENSIONS)
        extensions = dict(cursor.fetchall())
        cursor.execute(SELECT_EXTENSION_INDEXES)
        indexes = {name: found for name, found in cursor.fetchall() if name in extensions}
    described = {name: part.describe() for name, part in BACKUP_PARTS.items()}
    moment = taken_at.astimezone(datetime.UTC).isoformat()
    return Manifest(BACKUP_FORMAT, settings.VERSION, major, moment, migrations, tables, extensions, indexes, described)


def count_rows_by_table() -> dict[str, int]:
    """The number of rows of each table, by its quoted name with its schema."""
    with connection.cursor() as cursor:
        cursor.execute(COUNTED_TABLES)
        counts = {}
        for (table,) in cursor.fetchall():
            cursor.execute(f"SELECT count(*) FROM {table}")  # noqa: S608  (quoted by the server)
            counts[table] = int(cursor.fetchone()[0])
        return counts


def dump_database(pg_dump: str, snapshot: str, archive: BackupWriter, report: Callable[[str], None]) -> None:
    target, environment = connection_arguments(connection)
    command = [
        pg_dump, "--format=custom", "--no-password", f"--snapshot={snapshot}", f"--lock-wait-timeout={LOCK_WAIT}",
        "--no-publications", "--no-subscriptions", "--dbname", target,
    ]  # fmt: skip
    with tempfile.TemporaryFile() as errors:  # messages alone, no data
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment, cwd="/")  # noqa: S603
        with killed_at_the_end(process):
            assert process.stdout  # noqa: S101  (for the type checker)
            copy_with_progress(process.stdout, archive, report)
            if process.wait() != 0:
                errors.seek(0)
                raise BackupError(f"pg_dump failed: {find_reason(errors.read())}.")


def copy_with_progress(source: IO[bytes], archive: BackupWriter, report: Callable[[str], None]) -> None:
    copied, report_progress = 0, at_intervals(report)
    while data := source.read1(PART):  # type: ignore[attr-defined]
        archive.write(data)
        copied += len(data)
        report_progress(f"{copied / 2**20:,.0f} MiB dumped…")
