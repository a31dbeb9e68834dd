"""`manage.py backup TO`: write a backup of the database into one new file."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from healthcare.operations.backup import create_backup
from healthcare.operations.backup_errors import BackupError


class Command(BaseCommand):
    help = (
        "Write a backup of the database into one new file of mode 0600, while the API goes on. An existing file is "
        "refused. `restore` reads it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("to", type=Path, metavar="TO", help="the new file")
        parser.add_argument(
            "--encrypt-to", action="append", default=[], metavar="RECIPIENT",
            help="a public key of age (age1…) or SSH that can decrypt the file; may be repeated",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        target = options["to"].absolute()
        try:
            written = create_backup(target, options["encrypt_to"], self.report)
        except BackupError as error:
            raise CommandError(str(error)) from error
        how = "encrypted" if options["encrypt_to"] else "not encrypted"
        self.stdout.write(
            f"{target}: {written.rows:,} rows of {written.tables} tables, {written.size / 2**20:,.1f} MiB, {how}."
        )

    def report(self, text: str) -> None:
        self.stderr.write(text)
        self.stderr.flush()
