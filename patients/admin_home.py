"""What the admin's home page shows of patients: how many there are, and how many are new."""

from django.utils import timezone

from healthcare.admin.charts import ColumnChart
from healthcare.admin.counts import count_rows, total
from healthcare.admin.home import Figure, filtered_list_url
from healthcare.admin.id_ranges import TimedRows
from healthcare.admin.recent_days import RecentDays
from patients.models import Patient

NEW_PATIENTS = TimedRows(Patient, "created_at", "deleted_at IS NULL")


def patient_figures() -> list[Figure]:
    # In the order of the index `patient_list`, which holds the active patients alone.
    count = count_rows(Patient.objects.active().order_by("created_by_id", "-id"))
    return [Figure("Patients", str(count), "active records", filtered_list_url(Patient))]


def read_new_patients() -> list[Figure | ColumnChart]:
    days = RecentDays(7, timezone.localdate())
    counts = NEW_PATIENTS.count_by_interval(days.beginnings)
    url = filtered_list_url(Patient, created_from=days.first)
    return [
        Figure("New this week", str(total(counts)), f"patients since {days.name(days.first)}", url),
        ColumnChart(
            "New patients",
            f"a day, since {days.name(days.first)}",
            days.columns(counts, lambda day: filtered_list_url(Patient, created_from=day, created_to=day)),
        ),
    ]
