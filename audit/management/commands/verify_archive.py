"""`manage.py verify_archive FILE`: verify a file that `archive` has written, without the database."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.archive_file import ArchiveError, verify_file
from audit.seals import seal_key


class Command(BaseCommand):
    help = (
        "Verify that a file is what `archive` has written, byte for byte. It needs AUDIT_SEAL_KEY and no database. "
        "Exits with status 1 if any byte differs."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE", help="A file that `archive` wrote.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            digest, header, counts = verify_file(options["file"], seal_key())
        except ArchiveError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{options['file']} cannot be read: {error.strerror}.") from error
        for table, count in counts.items():
            self.stdout.write(f"  {table} {count}")
        self.stdout.write(f"Unaltered: {sum(counts.values())} rows before {header['before']}, SHA-256 {digest}.")
