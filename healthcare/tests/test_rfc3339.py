"""Dates and times are those of RFC 3339 and no others, in bodies, filters and `as_of`."""

import datetime
from urllib.parse import urlencode

import pytest

from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.rfc3339 import parse_date_time, parse_full_date
from mappings.tests.factories import make_mapping
from patients.tests.factories import make_patient

NO_DATES = [
    "2000-W01",
    "2000-W01-1",
    "20000101",
    "2000-1-1",
    "２０００-０１-０１",
    "٢٠٠٠-٠١-٠١",
    "2000-02-30",
    "2001-02-29",
    "2000-00-01",
    "2000-001",
    "0000-01-01",
    "+2000-01-01",
    "2000-01-01T00:00:00Z",
    " 2000-01-01",
    "2000-01-01\n",
    "2000/01/01",
    "01-01-2000",
    "10000-01-01",
]
NO_TIMES = [
    "2026-03-03",
    "2026-03-03T10:00:00",
    "2026-03-03 10:00:00Z",
    "2026-03-03T10:00Z",
    "2026-03-03T10Z",
    "20260303T100000Z",
    "2026-03-03T10:00:60Z",
    "2026-03-03T24:00:00Z",
    "2026-03-03T10:00:00.Z",
    "2026-03-03T10:00:00,5Z",
    "2026-03-03T10:00:00+0530",
    "2026-03-03T10:00:00+24:00",
    "2026-03-03T10:00:00+05:60",
    "2026-03-03T10:00:00+05",
    "2026-W10-2T10:00:00Z",
    "２０２６-03-03T10:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-01:00",
    "2026-03-03T10:00:00 Z",
    "2026-03-03T10:00:00z\n",
]
TEN = datetime.datetime(2026, 3, 3, 10, tzinfo=datetime.UTC)


@pytest.mark.parametrize("text", NO_DATES)
def test_no_full_date(text: str) -> None:
    assert parse_full_date(text) is None


@pytest.mark.parametrize("text", NO_TIMES)
def test_no_date_time(text: str) -> None:
    assert parse_date_time(text) is None


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("2026-03-03T10:00:00Z", 0),
        ("2026-03-03t10:00:00z", 0),
        ("2026-03-03T15:30:00+05:30", 0),
        ("2026-03-02T20:00:00-14:00", 0),
        ("2026-03-03T10:00:00-00:00", 0),
        ("2026-03-03T10:00:00.5Z", 500_000),
        ("2026-03-03T10:00:00.123456789Z", 123_456),
    ],
)
def test_a_date_time(text: str, microseconds: int) -> None:
    assert parse_date_time(text) == TEN.replace(microsecond=microseconds)


@pytest.mark.parametrize("date", [*NO_DATES, 20000101, True, [], {}])
def test_a_body_takes_full_dates_only(as_alice: LoggedInClient, date: object) -> None:
    answer = as_alice.post("/api/patients/", {"name": "X", "birth_date": date})
    assert [(error["pointer"], error["code"]) for error in answer.json()["errors"]] == [("/birth_date", "invalid")]


@pytest.mark.parametrize("date", [date for date in NO_DATES if date.strip() == date])
def test_a_filter_takes_full_dates_only(as_alice: LoggedInClient, date: str) -> None:
    answer = as_alice.get("/api/patients/?" + urlencode({"birth_date_after": date}))
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/birth_date_after"]


@pytest.mark.parametrize("time", NO_TIMES)
def test_bodies_and_as_of_take_date_times_only(as_alice: LoggedInClient, alice: User, time: str) -> None:
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    answer = as_alice.patch(f"/api/mappings/{mapping.pk}/", {"started_at": time})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/started_at"]
    answer = as_alice.get("/api/patients/?" + urlencode({"as_of": time}))
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/as_of"]


@pytest.mark.parametrize("time", NO_TIMES[1:])
def test_a_filter_by_time_takes_a_date_time_or_a_full_date(as_alice: LoggedInClient, alice: User, time: str) -> None:
    make_patient(alice)
    answer = as_alice.get("/api/patients/?" + urlencode({"created_after": time}))
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/created_after"]
    for accepted in ("2026-03-03", "2026-03-03t10:00:00z", "2026-03-03T10:00:00 05:30"):
        answer = as_alice.get(f"/api/patients/?created_after={accepted}")
        assert (answer.status_code, len(answer.json())) == (200, 1)
