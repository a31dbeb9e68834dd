"""`manage.py seal_audit`: seal the rows that history and access log hold now."""

from typing import Any

from django.core.management.base import BaseCommand

from audit.models import Seal
from audit.seals import seal_batch, seal_key
from audit.tables import sealed_tables
from healthcare.operations.clock import check_clock


class Command(BaseCommand):
    help = "Seal the history and the access log, to be run by cron. Prints the last seal: keep it outside the database."

    def handle(self, *args: Any, **options: Any) -> None:
        key, total = seal_key(), 0
        check_clock()
        for table in sealed_tables():
            sealed, until = 0, table.settled()
            while rows := seal_batch(key, table, until):
                sealed += rows
                if sealed % 100_000 == 0:
                    self.stderr.write(f"{table.name}: {sealed} rows sealed so far")
            total += sealed
        self.stderr.write(f"{total} rows sealed.")
        last = Seal.objects.order_by("-id").first()
        if last:
            self.stdout.write(str(last))
