"""What the admin's home page shows of the audit: the reads of patients' data, and the age of the last seal."""

from django.utils import timezone
from django.utils.timesince import timesince

from audit.models import AccessLog, Seal
from healthcare.admin.charts import ColumnChart
from healthcare.admin.home import Figure, filtered_list_url
from healthcare.admin.id_ranges import TimedRows
from healthcare.admin.recent_days import RecentDays
from healthcare.admin.value_texts import local_time

ACCESSES_BY_TIME = TimedRows(AccessLog, "at")


def access_figures() -> list[Figure | ColumnChart]:
    days = RecentDays(14, timezone.localdate())
    counts = ACCESSES_BY_TIME.count_by_interval(days.beginnings)
    today = counts[-1] if counts[-1].is_exact else ACCESSES_BY_TIME.count_since(days.beginnings[-1])
    counts[-1] = today
    url = filtered_list_url(AccessLog, day=days.today)
    return [
        Figure("Reads today", str(today), "requests for patients' data, refused ones included", url),
        ColumnChart(
            "Reads of patients' data",
            f"requests a day, since {days.name(days.first)}",
            days.columns(counts, lambda day: filtered_list_url(AccessLog, day=day)),
        ),
    ]


def read_last_seal() -> list[Figure]:
    sealed_at = Seal.objects.order_by("-id").values_list("at", flat=True).first()
    if sealed_at is None:
        return [
            Figure(
                "Last seal", "none", "not sealed yet: an operator runs manage.py seal_audit", filtered_list_url(Seal)
            )
        ]
    age = timesince(sealed_at, timezone.now(), depth=1)
    return [Figure("Last seal", f"{age} ago", local_time(sealed_at), filtered_list_url(Seal))]
