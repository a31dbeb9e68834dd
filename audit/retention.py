"""The months of history and access log that are old enough to be archived."""

import datetime
from collections import Counter
from collections.abc import Iterable
from typing import Any

from django.db.models import Count, Max, QuerySet
from django.db.models.functions import TruncMonth

from audit.archive import archived_models, last_id_before
from audit.models import AccessLog, Archive, LegalHold
from audit.patient_data import patient_id_field_of
from audit.tables import BELOW_EVERY_ID, Table


def months_before(day: datetime.date, months: int) -> datetime.datetime:
    """The beginning, in UTC, of the month so many months before that of the day."""
    count = day.year * 12 + day.month - 1 - months
    return datetime.datetime(count // 12, count % 12 + 1, 1, tzinfo=datetime.UTC)


def months_due(before: datetime.datetime) -> list[tuple[str, int, bool]]:
    """The months before this time that are in the database, with their rows, and whether some of these are about a
    patient under a legal hold. What archives have left, the last states, does not count."""
    archived = dict(Archive.objects.values_list("table").annotate(last=Max("last_id")))
    held = held_records()
    counts, with_holds = Counter[str](), set[str]()
    for model in archived_models():
        table = Table.of(model)
        after = archived.get(table.name, BELOW_EVERY_ID)
        last = last_id_before(table, after, before)
        rows = model._default_manager.filter(**{f"{table.key}__gt": after, f"{table.key}__lte": last})
        by_month = count_by_month(rows, table.time)
        counts.update(by_month)
        field = "patient_ids" if model is AccessLog else patient_id_field_of(model)
        if field and held:
            about = {f"{field}__overlap" if model is AccessLog else f"{field}__in": held}
            with_holds |= count_by_month(rows.filter(**about), table.time).keys()
    return [(month, count, month in with_holds) for month, count in sorted(counts.items())]


def held_records() -> list[int]:
    """The ids of all records under a legal hold."""
    ids: Iterable[list[int]] = LegalHold.objects.active().values_list("record_ids", flat=True)
    return sorted({record for records in ids for record in records})


def count_by_month(rows: QuerySet[Any], time: str) -> dict[str, int]:
    months = rows.order_by().values_list(TruncMonth(time, tzinfo=datetime.UTC)).annotate(rows=Count("*"))
    return {f"{month:%Y-%m}": count for month, count in months}
