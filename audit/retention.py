"""The months of history and access log that are old enough to be archived."""

import datetime
from collections import Counter
from typing import Any

from django.db.models import Count, Max, QuerySet
from django.db.models.functions import TruncMonth

from audit.archive import archived_models, last_id_before
from audit.legal_hold import rows_about
from audit.models import Archive, LegalHold
from audit.tables import BELOW_EVERY_ID, Table


def months_before(day: datetime.date, months: int) -> datetime.datetime:
    """The beginning, in UTC, of the month so many months before that of the day."""
    count = day.year * 12 + day.month - 1 - months
    return datetime.datetime(count // 12, count % 12 + 1, 1, tzinfo=datetime.UTC)


def months_due(before: datetime.datetime) -> list[tuple[str, int, bool]]:
    """The months before this time that are in the database, with their rows, and whether some of these are about a
    patient under a legal hold. What archives have left, the last states, does not count."""
    archived = dict(Archive.objects.values_list("table").annotate(last=Max("last_id")))
    held = LegalHold.objects.active().held_records()
    counts, with_holds = Counter[str](), set[str]()
    for model in archived_models():
        table = Table.of(model)
        after = archived.get(table.name, BELOW_EVERY_ID)
        last = last_id_before(table, after, before)
        rows = model._default_manager.filter(**{f"{table.key}__gt": after, f"{table.key}__lte": last})
        by_month = count_by_month(rows, table.time)
        counts.update(by_month)
        if held:
            with_holds |= count_by_month(rows_about(rows, held), table.time).keys()
    return [(month, count, month in with_holds) for month, count in sorted(counts.items())]


def count_by_month(rows: QuerySet[Any], time: str) -> dict[str, int]:
    months = rows.order_by().values_list(TruncMonth(time, tzinfo=datetime.UTC)).annotate(rows=Count("*"))
    return {f"{month:%Y-%m}": count for month, count in months}
