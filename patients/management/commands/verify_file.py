"""`manage.py verify_file FILE`: verify the file of a person by its manifest."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from patients.person_file.verification import PersonFileError, verify_person_file


class Command(BaseCommand):
    help = (
        "Verify that a file of a person has exactly the parts that its manifest lists, each as it was written. It "
        "needs no database. The manifest is not signed: compare the SHA-256 that this prints with the one that "
        "export_patient has printed. Exits with status 1 if anything differs."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE", help="A file that export_patient or the API wrote.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            digest, manifest = verify_person_file(options["file"])
        except PersonFileError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{options['file']} cannot be read: {error.strerror}.") from error
        for part in manifest["parts"]:
            self.stdout.write(f"  {part['sha256']} {part['name']}")
        self.stdout.write(f"Unaltered: {len(manifest['parts'])} parts, SHA-256 of the manifest {digest}.")
