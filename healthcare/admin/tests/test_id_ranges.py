"""Rows by the time they were added, found by a binary search over the primary key."""

import datetime
import re
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from audit.models import AccessLog
from healthcare.admin.counts import Count
from healthcare.admin.home import INDEX_SCANS_ONLY
from healthcare.admin.id_ranges import (
    COUNT_EXACTLY,
    FIRST_IDS,
    RANGE_LIMITS,
    SAMPLE_SHARES,
    SAMPLED_IDS,
    SAMPLES,
    TimedRows,
)
from healthcare.admin.tests.access_rows import add_accesses, skip_ids
from patients.models import Patient

ACCESSES = TimedRows(AccessLog, "at")
SHOWN = TimedRows(AccessLog, "at", "outcome = 200")
MIDNIGHT = timezone.make_aware(datetime.datetime(2026, 11, 26))
HOUR, DAY = datetime.timedelta(hours=1), datetime.timedelta(days=1)

pytestmark = pytest.mark.django_db


def days(count: int) -> list[datetime.datetime]:
    return [MIDNIGHT + DAY * (number - count + 1) for number in range(count)]


def test_of_an_empty_table_there_is_no_first_id():
    assert ACCESSES.first_id_since(MIDNIGHT) is None
    assert ACCESSES.count_by_interval(days(3)) == [Count(0)] * 3


@pytest.mark.parametrize("gap", [0, 1, 1000])
def test_the_first_id_of_any_moment_is_that_of_the_first_row_that_is_not_older(gap: int):
    times = [MIDNIGHT + HOUR * number for number in range(20)]
    for time in times:
        add_accesses(time)
        skip_ids(gap)
    ids = list(AccessLog.objects.order_by("id").values_list("id", flat=True))
    for number, time in enumerate(times):
        for moment in (time, time - HOUR / 2):
            found = ACCESSES.first_id_since(moment)
            assert [key for key in ids if key >= (found or 0)] == ids[number:]
    assert (ACCESSES.first_id_since(times[-1] + HOUR) or 0) > ids[-1]


def test_a_day_begins_at_its_first_moment_and_ends_before_the_next():
    second = datetime.timedelta(microseconds=1)
    add_accesses(MIDNIGHT - DAY - second, MIDNIGHT - DAY, MIDNIGHT - second, MIDNIGHT, MIDNIGHT + HOUR * 30)
    assert ACCESSES.count_by_interval(days(2)) == [Count(2), Count(2)]


def test_the_order_of_the_times_may_differ_from_that_of_the_ids_by_an_hour():
    times = [MIDNIGHT - HOUR * 3, *[MIDNIGHT + HOUR * step / 10 for step in (9, -9, 5, -2, 7, -8, 1)]]
    add_accesses(*times)
    assert ACCESSES.count_since(MIDNIGHT) == Count(4)
    assert ACCESSES.count_by_interval(days(2)) == [Count(4), Count(4)]


def test_above_ten_thousand_ids_gaps_and_rows_that_do_not_count_are_left_out():
    for day in days(3):
        add_accesses(day + HOUR, copies=2_000)
        skip_ids(2_000)
        add_accesses(day + HOUR * 2, copies=1_000, outcome=404)
    for rows, expected in ((ACCESSES, 3_000), (SHOWN, 2_000)):
        for count in rows.count_by_interval(days(3)):
            assert count.precision == "about"
            assert abs(count.number - expected) <= expected * 0.11
    add_accesses(MIDNIGHT + DAY, copies=SAMPLES * SAMPLED_IDS - 7)  # few enough to be read whole
    assert ACCESSES.count_by_interval([*days(3), MIDNIGHT + DAY])[-1] == Count(SAMPLES * SAMPLED_IDS - 7)


@pytest.mark.parametrize(
    ("rows", "index"),
    [
        (ACCESSES, "audit_accesslog_pkey"),
        (TimedRows(Patient, "created_at", "deleted_at IS NULL"), "patients_patient_pkey"),
    ],
)
def test_the_statements_read_the_primary_key_alone(rows: TimedRows, index: str):
    """Not another index with the id beside other columns either, all of which PostgreSQL would read."""
    add_accesses(*days(3), copies=1_000)
    names = {
        "table": rows.model._meta.db_table,
        "key": "id",
        "time": rows.time,
        "condition": rows.condition,
        **RANGE_LIMITS,
    }
    with connection.cursor() as cursor:
        cursor.execute(INDEX_SCANS_ONLY, ["60s"])
        values: dict[str, Any] = {
            "moments": days(3),
            "first": 1,
            "start": days(3)[0],
            "lows": [1, 1000],
            "highs": [1000, 3000],
        }
        for sql in (FIRST_IDS, COUNT_EXACTLY, SAMPLE_SHARES):
            cursor.execute("EXPLAIN " + sql.format(**names), values)
            plan = "\n".join(line for (line,) in cursor.fetchall())
            assert {*re.findall(r"Scan.* using (\w+)", plan)} == {index}, plan
            assert f"on {names['table']}" not in plan.replace(f"using {index} on", ""), plan
