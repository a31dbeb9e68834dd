"""`manage.py verify_audit`: verify the rows that `seal_audit` has sealed."""

import re
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.seals import TamperingError, Verifier, seal_key, seals
from audit.tables import sealed_tables


class Command(BaseCommand):
    help = "Verify the sealed history and access log. Exit status 1 names the first row altered, missing or inserted."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--expect", metavar="SEAL", help="A line that seal_audit printed. The chain must contain that seal."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        verifier, expected = Verifier(seal_key(), sealed_tables()), options["expect"]
        if expected and not re.fullmatch(r"\d+:[0-9a-f]{64}", expected):
            raise CommandError("--expect takes a line that seal_audit printed: a number, a colon and 64 hex digits.")
        reported, found = 0, not expected
        try:
            for seal in seals():
                verifier.verify(seal)
                found = found or str(seal) == expected
                if verifier.verified_rows - reported >= 100_000:
                    reported = verifier.verified_rows
                    self.stderr.write(f"{reported} rows verified so far")
            unsealed = verifier.finish(None if found else expected)
        except TamperingError as error:
            raise CommandError(str(error)) from error
        verified, forgotten = verifier.verified_rows, verifier.forgotten_rows
        self.stdout.write(
            f"{verified} sealed rows are unaltered, {forgotten} of them erased with a patient; "
            f"{unsealed} rows are not sealed yet."
        )
