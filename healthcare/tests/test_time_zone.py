"""TIME_ZONE decides the day, and answers are in UTC whatever it is."""

import datetime
import os
import subprocess
import sys
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from mappings.tests.factories import make_mapping
from patients.models import Patient
from patients.tests.factories import make_patient

NEW_YEARS_EVE = datetime.datetime(2026, 12, 31, 12, tzinfo=datetime.UTC)  # already the 1st in Kiritimati (UTC+14)
ZONES = ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"]


@pytest.fixture(params=ZONES)
def zone(request: Any, settings: Any) -> str:
    settings.TIME_ZONE = request.param
    return str(request.param)


@pytest.mark.parametrize("fast_path", ["on", "off"])
def test_every_time_of_an_answer_is_in_utc(
    as_alice: LoggedInClient, alice: User, settings: Any, zone: str, fast_path: str
) -> None:
    settings.FAST_PATH = fast_path
    patient, doctor = make_patient(alice), make_doctor(alice)
    mapping = make_mapping(patient, doctor)
    seen = 0
    for path in (
        f"/api/patients/{patient.pk}/",
        f"/api/patients/{patient.pk}/history/",
        f"/api/patients/{patient.pk}/access-log/",
        f"/api/doctors/{doctor.pk}/",
        f"/api/assignments/{mapping.pk}/",
        f"/api/mappings/{mapping.pk}/history/",
        "/api/patients/?include=doctors",
        "/api/auth/sessions/",
    ):
        answer = as_alice.get(path).json()
        for record in answer if isinstance(answer, list) else [answer]:
            times = {name: value for name, value in record.items() if value and (name == "at" or name.endswith("_at"))}
            assert all(value.endswith("Z") for value in times.values()), (path, times)
            seen += len(times)
    assert seen > 10


@pytest.mark.parametrize("fast_path", ["on", "off"])
def test_the_age_and_the_filters_by_age_count_the_day_of_the_zone(
    as_alice: LoggedInClient,
    alice: User,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    zone: str,
    fast_path: str,
) -> None:
    settings.FAST_PATH = fast_path
    patient = make_patient(alice, birth_date=datetime.date(1990, 1, 1), birth_year=1990)
    monkeypatch.setattr(timezone, "now", lambda: NEW_YEARS_EVE)  # the tokens keep the real clock
    age = 37 if zone == "Pacific/Kiritimati" else 36
    assert as_alice.get(f"/api/patients/{patient.pk}/").json()["age"] == age
    assert len(as_alice.get("/api/patients/?age_min=37").json()) == (age == 37)
    assert len(as_alice.get("/api/patients/?age_max=36").json()) == (age == 36)


def test_a_day_of_a_filter_begins_in_the_zone(as_alice: LoggedInClient, alice: User, zone: str) -> None:
    make_patient(alice)
    Patient.objects.update(created_at=NEW_YEARS_EVE)
    found = {
        day: len(as_alice.get(f"/api/patients/?created_after={day}").json()) for day in ("2026-12-31", "2027-01-01")
    }
    assert found == {"2026-12-31": 1, "2027-01-01": int(zone == "Pacific/Kiritimati")}


def test_a_start_with_an_unknown_zone_is_refused() -> None:
    environment = {**os.environ, "TIME_ZONE": "Mars/Olympus", "DEBUG": "True", "SECRET_KEY": "x" * 50}
    run = subprocess.run(  # noqa: S603
        [sys.executable, "manage.py", "check"], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "TIME_ZONE is no time zone; write TIME_ZONE=Asia/Kolkata, for example." in run.stderr
