"""`manage.py restore FROM`: restore a backup of `manage.py backup` into an empty database."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from healthcare.operations.backup_errors import BackupError
from healthcare.operations.backup_parts import RestoreOptions
from healthcare.operations.restore import restore_backup


class Command(BaseCommand):
    help = (
        "Restore a backup into the database of DATABASE_URL, which must exist and have no tables. Verifies the file, "
        "the rows and the seals, ends all login sessions, and leaves the database empty if anything fails."
    )
    requires_system_checks: list[str] = []  # the database is empty

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", type=Path, metavar="FROM", help="a file that `backup` wrote")
        parser.add_argument("--identity", type=Path, metavar="FILE", help="the private key of an encrypted file")
        parser.add_argument(
            "--keep-sessions", action="store_true", help="let the login sessions in the backup go on; else they end"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        restore_options = RestoreOptions(options["keep_sessions"], self.report)
        try:
            done = restore_backup(options["source"].absolute(), options["identity"], restore_options)
        except BackupError as error:
            raise CommandError(str(error)) from error
        self.stdout.write("\n".join(done))

    def report(self, text: str) -> None:
        self.stderr.write(text)
        self.stderr.flush()
