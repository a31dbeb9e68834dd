"""`manage.py tidy`: remove rows that are of no use any more."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from healthcare.operations.clock import check_clock
from healthcare.operations.tidying import REGISTERED


class Command(BaseCommand):
    help = (
        "Remove expired login sessions, sessions of the admin, attempts, login addresses and idempotency records, and "
        "notices that were read, each after the days of its RETENTION_* setting. To be run by cron, at any time: it "
        "waits for nobody, nobody waits for it, and a second run meanwhile does no harm."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--dry-run", action="store_true", help="Say how many rows it would remove, and remove none."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        check_clock()
        dry_run = options["dry_run"]
        self.stdout.write("Would be removed:" if dry_run else "Removed:")
        for expiring in REGISTERED:
            count = expiring.expired().count() if dry_run else sum(expiring.remove())
            self.stdout.write(f"  {expiring.name} {count}")
