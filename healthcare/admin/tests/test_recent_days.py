"""Days begin at midnight in TIME_ZONE, also where a change of the clock skips or repeats it."""

import datetime
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from healthcare.admin.counts import Count
from healthcare.admin.recent_days import RecentDays

# The day before each is an hour shorter, longer or 24 hours long.
CHANGES = [
    ("America/Santiago", datetime.date(2026, 9, 7), 23),  # midnight of the 6th does not exist
    ("America/Havana", datetime.date(2026, 11, 2), 25),
    ("Asia/Kolkata", datetime.date(2026, 11, 26), 24),
]


@pytest.mark.parametrize(("zone", "today", "hours"), CHANGES)
def test_a_day_ends_where_the_next_one_begins(zone: str, today: datetime.date, hours: int):
    with timezone.override(ZoneInfo(zone)):
        days = RecentDays(3, today)
        before, day, after = (moment.astimezone(datetime.UTC) for moment in days.beginnings)
    assert after - day == datetime.timedelta(hours=hours)
    assert day - before == datetime.timedelta(hours=24)


@pytest.mark.parametrize(("number", "label"), [(7, "Thu 26"), (14, "26")])
def test_a_column_has_a_short_label_a_full_name_and_its_list(number: int, label: str):
    days = RecentDays(number, datetime.date(2026, 11, 26))
    column = days.columns([Count(5)] * number, lambda day: f"/?day={day}")[-1]
    assert (column.label, column.name, column.url) == (label, "Thursday 26 November", "/?day=2026-11-26")
