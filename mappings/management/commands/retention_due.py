"""`manage.py retention_due`: list what has passed its retention period, and delete nothing."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils import timezone

from audit.retention import months_before, months_due
from healthcare.operations.clock import check_clock
from mappings.retention import patients_due, years_before


class Command(BaseCommand):
    help = (
        "List what has passed its retention period: patients who were deleted or not treated since "
        "RETENTION_PATIENTS_YEARS years, by their ids, and months of history and access log older than "
        "RETENTION_AUDIT_MONTHS months, with their rows. It deletes nothing: see erase_patient and archive."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        check_clock()
        now = timezone.now()
        for patient in patients_due(years_before(now, settings.RETENTION_PATIENTS_YEARS)):
            state = "deleted" if patient.is_deleted else "not treated since"
            self.stdout.write(f"patient {patient.patient_id} {state} {patient.since:%Y-%m-%d}{mark(patient.is_held)}")
        for month, rows, is_held in months_due(months_before(now.date(), settings.RETENTION_AUDIT_MONTHS)):
            self.stdout.write(f"month {month} {rows} rows of history and access log{mark(is_held)}")


def mark(is_held: bool) -> str:
    return " (legal hold)" if is_held else ""
