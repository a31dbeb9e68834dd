"""A day that has begun anywhere on earth can be a birth or a death, and ages as of a time are those of its day."""

import datetime
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import User
from conftest import LoggedInClient
from patients.tests.factories import make_patient

NOON = datetime.datetime(2030, 11, 25, 12, tzinfo=datetime.UTC)  # the 26th in UTC+14 and the 25th in UTC-12


@pytest.fixture
def at_noon(as_alice: LoggedInClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the login of alice, so that her tokens are of today."""
    monkeypatch.setattr(timezone, "now", lambda: NOON)


@pytest.mark.usefixtures("at_noon")
@pytest.mark.parametrize("fast_path", ["on", "off"])
@pytest.mark.parametrize("field", ["birth_date", "deceased_on"])
def test_a_day_may_have_begun_somewhere(as_alice: LoggedInClient, settings: Any, fast_path: str, field: str) -> None:
    settings.FAST_PATH = fast_path
    answer = as_alice.post("/api/patients/", {"name": "Newborn", field: "2030-11-26"})
    assert (answer.status_code, answer.json()[field]) == (201, "2030-11-26")
    assert answer.json()["age"] == (0 if field == "birth_date" else None)
    refused = as_alice.post("/api/patients/", {"name": "Unborn", field: "2030-11-27"})
    assert [error["pointer"] for error in refused.json()["errors"]] == [f"/{field}"]


@pytest.mark.usefixtures("at_noon")
def test_a_newborns_age_may_be_stated(as_alice: LoggedInClient) -> None:
    answer = as_alice.post("/api/patients/", {"name": "Newborn", "birth_date": "2030-11-26", "age": 0})
    assert (answer.status_code, answer.json()["birth_year"]) == (201, 2030)


def test_the_year_may_have_begun_somewhere(as_alice: LoggedInClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timezone, "now", lambda: NOON.replace(month=12, day=31))
    for body in ({"birth_year": 2031}, {"birth_date": "2031-01-01"}):
        assert as_alice.post("/api/patients/", {"name": "Newborn", **body}).json()["age"] == 0
    assert as_alice.post("/api/patients/", {"name": "Newborn", "birth_year": 2032}).status_code == 400


def test_filters_by_age_count_the_day_of_as_of(as_alice: LoggedInClient, alice: User) -> None:
    make_patient(alice, name="Ann", birth_date=datetime.date(1990, 6, 15), birth_year=1990)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE patients_patientevent DISABLE TRIGGER USER")
        cursor.execute("UPDATE patients_patientevent SET created_at = '2020-01-01'")
        cursor.execute("ALTER TABLE patients_patientevent ENABLE TRIGGER USER")
    for at, age in (("2020-06-14T23:59:59Z", 29), ("2020-06-15T00:00:00Z", 30)):
        path = f"/api/patients/?as_of={at}"
        assert as_alice.get(path).json()[0]["age"] == age
        for query, found in ((f"age_min={age}", 1), (f"age_min={age + 1}", 0), (f"age_max={age - 1}", 0)):
            assert len(as_alice.get(f"{path}&{query}").json()) == found
