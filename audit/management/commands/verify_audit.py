"""`manage.py verify_audit`: verify the rows that `seal_audit` has sealed."""

import re
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, transaction

from audit.models import Seal
from audit.seals import TamperingError, seal_key, seals
from audit.tables import sealed_tables
from audit.verification import Verifier
from healthcare.model_fields import LARGEST_ID


class Command(BaseCommand):
    help = (
        "Verify the history and the access log that were sealed since the last verification, or all with --full. Exit "
        "status 1 names the first row altered, missing or inserted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--expect", metavar="SEAL", help="A line that seal_audit printed. The chain must contain that seal."
        )
        parser.add_argument(
            "--full", action="store_true", help="Verify all, not only what was sealed since the last run."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        key, expected = seal_key(), options["expect"]
        if expected and not re.fullmatch(r"\d+:[0-9a-f]{64}", expected):
            raise CommandError("--expect takes a line that seal_audit printed: a number, a colon and 64 hex digits.")
        reported, found = 0, not expected
        try:
            verifier = Verifier(key, sealed_tables())
            if not options["full"]:
                verifier.resume()
                found = found or is_sealed_before(verifier.seal_id, expected)
            since = verifier.seal_id
            for seal in seals(since):
                verifier.verify(seal)
                found = found or str(seal) == expected
                if verifier.verified_rows - reported >= 100_000:
                    reported = verifier.verified_rows
                    self.stderr.write(f"{reported} rows verified so far")
            verifier.check_end(None if found else expected)
            unsealed = verifier.check_unsealed()
        except TamperingError as error:
            raise CommandError(str(error)) from error
        try:
            with transaction.atomic():
                verifier.set_mark()
        except DatabaseError:  # a hot standby, or a user who may only read
            self.stderr.write("The mark cannot be stored here, so the next run reads the same again.")
        after = f" Those up to seal {since} were verified before; --full verifies them again." if since else ""
        self.stdout.write(verifier.summary(unsealed) + after)


def is_sealed_before(last: int, expected: str) -> bool:
    """Whether the expected seal is in the database and no later than this one."""
    number = min(int(expected.partition(":")[0]), LARGEST_ID)
    return number <= last and str(Seal.objects.filter(pk=number).first()) == expected
