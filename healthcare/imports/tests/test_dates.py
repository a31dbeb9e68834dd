"""Dates in the form of a file: read one way, or not at all."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthcare.imports.dates import is_date_format, parse_date

FORMATS = ["%d.%m.%Y", "%m/%d/%Y", "%Y%m%d", "%d %b %Y", "%B %d, %Y", "%Y年%m月%d日", "%d%m%Y"]


@pytest.mark.parametrize("date_format", FORMATS, ids=range(len(FORMATS)))
def test_a_format_names_the_day_the_month_and_the_year_once(date_format: str) -> None:
    assert is_date_format(date_format)


@pytest.mark.parametrize(
    "date_format",
    ["", "%d.%m.%y", "%d.%m", "%d.%m.%Y %H:%M", "%d.%m.%b.%Y", "%x", "%d.%m.%Y%", "%d.%m.%Y%%", "%-d.%m.%Y"]
    + ["%d\n%m.%Y", "%d.%m.%Y" + "." * 30, "%d.%d.%m.%Y", "%s"],
)
def test_any_other_format_is_refused(date_format: str) -> None:
    assert not is_date_format(date_format)


@given(st.dates(min_value=datetime.date(1000, 1, 1)), st.sampled_from(FORMATS))
def test_a_day_that_was_written_is_read_again(day: datetime.date, date_format: str) -> None:
    assert parse_date(day.strftime(date_format), date_format) == day


@pytest.mark.parametrize(
    ("text", "date_format", "day"),
    [
        ("3.4.1990", "%d.%m.%Y", datetime.date(1990, 4, 3)),
        ("1990-04-03", "", datetime.date(1990, 4, 3)),
        ("1990-04-03", "%d.%m.%Y", None),
        ("31.02.1990", "%d.%m.%Y", None),
        ("03.04.90", "%d.%m.%Y", None),
        ("03.04.1990 ", "%d.%m.%Y", None),
        ("٠٣.٠٤.١٩٩٠", "%d.%m.%Y", None),
        ("03.04.١٩٩٠", "%d.%m.%Y", None),
        ("1٣.04.1990", "%d.%m.%Y", None),
        ("1112000", "%d%m%Y", None),
        ("", "%d.%m.%Y", None),
        ("", "", None),
        ("19900403", "", None),
    ],
)
def test_what_could_be_another_day_is_none(text: str, date_format: str, day: datetime.date | None) -> None:
    assert parse_date(text, date_format) == day
