"""Django's command with the autodetector of our `makemigrations`, for one process at a time and while the API goes on:
see `healthcare.upgrades`. It also puts back what the database lacks of the API's role, its policies and its privileges:
see `healthcare.rls.access`."""

from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.core.management.base import CommandParser
from django.core.management.commands import migrate
from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from healthcare.management.commands.makemigrations import MigrationAutodetector
from healthcare.management.substitution import substituted
from healthcare.rls.access import name_gaps, restore_access
from healthcare.rls.privileges import close_database
from healthcare.rls.role import restore_role
from healthcare.upgrades.executor import PATIENCE, PatientExecutor
from healthcare.upgrades.lock import migration_lock


def parse_seconds(text: str) -> float:
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise ArgumentTypeError(f"{text} is not a number of seconds from 0 to 99999.")
    return float(text)


# If this process is killed, PostgreSQL ends its statement, such as CREATE INDEX CONCURRENTLY, soon. A timeout for the
# login's statements is for requests: building an index takes longer.
SESSION_SETTINGS = {"client_connection_check_interval": "2s", "statement_timeout": "0"}


@contextmanager
def session_settings(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Set SESSION_SETTINGS until the block ends, where the platform knows them."""
    if connection.in_atomic_block:
        yield
        return
    for name, value in SESSION_SETTINGS.items():
        with suppress(Error), connection.cursor() as cursor:
            cursor.execute(f"SET {name} = '{value}'")
    try:
        yield
    finally:
        with suppress(Error), connection.cursor() as cursor:
            cursor.execute(";".join(f"RESET {name}" for name in SESSION_SETTINGS))


class Command(migrate.Command):
    autodetector = MigrationAutodetector

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--patience", type=parse_seconds, default=PATIENCE, metavar="SECONDS",
            help="How long to try again while other transactions keep a table locked, %(default)g seconds.",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        if options["plan"] or options["check_unapplied"] or options["prune"]:
            super().handle(*args, **options)
            return
        connection = connections[options["database"]]
        with migration_lock(connection, self.report) as lock:

            class Executor(PatientExecutor):
                verify = staticmethod(lock.verify)
                report = staticmethod(self.report_retry)
                patience = options["patience"]

            # Before, since a migration may alter a policy; afterwards, since it may grant more than requests need.
            restore_role(connection)
            if put_back := [gap for gap in restore_access(connection) if gap.check == "policies"]:
                self.stderr.write(f"Put back what the migrations declare: {name_gaps(put_back)}.")
            with substituted(migrate, "MigrationExecutor", Executor), session_settings(connection):
                super().handle(*args, **options)
            lock.verify()
            restore_access(connection)
            close_database(connection)

    def report_retry(self, text: str) -> None:
        """Django has begun a line about the migration, unless it is to print nothing."""
        self.report(f"\n  {text}" if self.verbosity else text)

    def report(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
