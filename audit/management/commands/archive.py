"""`manage.py archive TO --before YYYY-MM`: move old history and access log into one sealed file."""

import datetime
import re
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit import archive
from audit.archive_file import ArchiveError, verify_file
from audit.models import Archive
from audit.seals import TamperingError, seal_key
from healthcare.file_digests import sha256_of
from healthcare.operations.clock import check_clock


class Command(BaseCommand):
    help = (
        "Write the history and the access log of the months before YYYY-MM to a new file, verify it, and remove the "
        "rows from the database. The rows must be sealed. If it is interrupted while rows are removed, run it again "
        "with the same file: it verifies the file and goes on. The file holds patients' data; keep it as you keep "
        "backups."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("to", type=Path, metavar="TO", help="The new file.")
        parser.add_argument("--before", required=True, metavar="YYYY-MM", help="The first month to keep.")

    def handle(self, *args: Any, **options: Any) -> None:
        before, key, path = month(options["before"]), seal_key(), options["to"].absolute()
        check_clock()
        str(path).encode()  # fails before anything is written, since the database could not store this name
        try:
            digest = self.interrupted(path, key)
            if digest is None:
                digest, counts = archive.write_archive(path, before, key)
                for table, count in counts.items():
                    self.stdout.write(f"  {table} {count}")
                self.stdout.write(f"{path} is written and verified, SHA-256 {digest}.")
            removed = archive.remove_archived_rows(digest)
        except (archive.ArchiveRefusedError, ArchiveError, TamperingError) as error:
            raise CommandError(str(error)) from error
        except FileExistsError as error:
            raise CommandError(f"{path} exists; give the name of a new file.") from error
        except BrokenPipeError:
            raise  # that of the output, not the file
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}.") from error
        self.stdout.write(f"Removed {removed} rows from the database.")

    def interrupted(self, path: Path, key: bytes) -> str | None:
        """The SHA-256 of this file if the removal of its rows was interrupted. Raises CommandError if that of another
        file was, or if the file exists otherwise."""
        unfinished = archive.unfinished_digest()
        if unfinished is None:
            if path.is_file() and Archive.objects.filter(digest=sha256_of(path)).exists():
                raise CommandError(
                    f"{path} exists and holds rows that were removed from the database: keep it, and give the name of "
                    "a new file."
                )
            if path.exists():
                raise FileExistsError
            return None
        last = Archive.objects.filter(digest=unfinished).latest("id")
        if not path.is_file() or sha256_of(path) != unfinished:
            raise CommandError(
                f"The removal of the rows in the file {last.file} (SHA-256 {unfinished}) was interrupted; give that "
                "file, so that it is verified and the removal goes on."
            )
        verify_file(path, key)
        self.stdout.write(f"{path} is verified; going on with the removal that was interrupted.")
        return unfinished


def month(text: str) -> datetime.datetime:
    """The beginning of a month in UTC. Raises CommandError for other text."""
    if re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", text, re.ASCII) and text >= "0001":
        return datetime.datetime(int(text[:4]), int(text[5:]), 1, tzinfo=datetime.UTC)
    raise CommandError("--before takes a month such as 2026-03.")
