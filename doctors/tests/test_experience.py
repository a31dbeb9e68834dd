"""Years of experience grow by one a year: the year in which they began is stored."""

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from healthcare.fastpath import public_cache
from healthcare.tests.admin_pages import AdminClient, errors_of

Travel = Callable[[str], None]


@pytest.fixture(autouse=True)
def today_is(monkeypatch: pytest.MonkeyPatch) -> Travel:
    """Sets the local date of the application, and not the clock of the tokens."""

    def travel(day: str) -> None:
        monkeypatch.setattr(timezone, "localdate", lambda *_: datetime.date.fromisoformat(day))

    travel("2026-11-22")
    return travel


@pytest.mark.parametrize("mode", ["on", "off"])
def test_the_number_that_was_sent_grows_with_the_years(
    as_alice: LoggedInClient, anonymous: APIClient, today_is: Travel, settings: Any, mode: str
) -> None:
    settings.FAST_PATH = mode
    created = as_alice.post("/api/doctors/", {"name": "Dr. Rao", "experience_years": 12})
    assert (created.status_code, created.json()["experience_years"]) == (201, 12)
    assert "experience_since" not in created.json()
    path = f"/api/doctors/{created.json()['id']}/"
    today_is("2028-01-01")
    for body in (anonymous.get(path).json(), anonymous.get("/api/doctors/").json()[0], as_alice.get(path).json()):
        assert body["experience_years"] == 14
    whole = as_alice.get(path).json()
    assert as_alice.put(path, whole).json() == whole
    assert as_alice.patch(path, {"experience_years": 20}).json()["experience_years"] == 20
    assert Doctor.objects.get().experience_since == 2008
    assert as_alice.patch(path, {"experience_years": None}).json()["experience_years"] is None
    assert as_alice.patch(path, {"experience_years": 0}).json()["experience_years"] == 0
    changes = [row["changes"].get("experience_since") for row in as_alice.get(f"{path}history/").json()]
    assert changes == [[None, 2028], [2008, None], [2014, 2008], [None, 2014]]


@pytest.mark.django_db(transaction=True)
def test_a_cached_answer_is_not_used_on_another_day(
    alice: User, anonymous: APIClient, today_is: Travel, settings: Any
) -> None:
    settings.FAST_PATH = "on"
    public_cache.answers.clear()
    path = f"/api/doctors/{make_doctor(alice, experience_since=2014).pk}/"
    for url in (path, "/api/doctors/"):
        for day, years in (("2026-12-31", 12), ("2026-12-31", 12), ("2027-01-01", 13), ("2026-12-31", 12)):
            today_is(day)
            body = anonymous.get(url).json()
            assert (body if isinstance(body, dict) else body[0])["experience_years"] == years
    assert public_cache.answers.answers


def test_the_past_shows_the_years_of_then(as_alice: LoggedInClient, alice: User) -> None:
    doctor = make_doctor(alice, experience_since=2014)
    at = as_alice.get(f"/api/doctors/{doctor.pk}/history/").json()[0]["at"]
    year = datetime.datetime.fromisoformat(at).year
    past = as_alice.get(f"/api/doctors/{doctor.pk}/", {"as_of": at}).json()
    assert past["experience_years"] in {year - 2014, 2026 - 2014}


def test_staff_state_the_year_in_the_admin(staff: User, alice: User) -> None:
    client, doctor = AdminClient(staff), make_doctor(alice)
    path = f"/admin/doctors/doctor/{doctor.pk}/change/"
    for bad in ("2027", "1925", "-1", "x"):
        assert list(errors_of(client.submit(path, experience_since=bad))) == ["experience_since"]
    assert client.submit(path, experience_since="2014").status_code == 302
    assert '<div class="readonly">12</div>' in client.page(path)
