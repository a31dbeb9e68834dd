"""A stated age is stored as a year of birth; the age of today is derived."""

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from conftest import LoggedInClient
from patients.birth import age_on
from patients.serializers import PatientSerializer

Travel = Callable[[str], None]


@pytest.fixture
def today_is(monkeypatch: pytest.MonkeyPatch) -> Travel:
    """Changes the local date of the application, and not the clock of the tokens."""

    def travel(day: str) -> None:
        monkeypatch.setattr(timezone, "localdate", lambda *_: datetime.date.fromisoformat(day))

    return travel


def test_a_stated_age_grows_by_one_a_year(as_alice: LoggedInClient, today_is: Travel) -> None:
    today_is("2026-11-22")
    patient = as_alice.post("/api/patients/", {"name": "John", "age": 34}).json()
    assert (patient["age"], patient["birth_year"], patient["birth_date"]) == (34, 1992, None)
    today_is("2027-11-22")
    assert as_alice.get(f"/api/patients/{patient['id']}/").json()["age"] == 35


def test_a_birth_date_gives_the_exact_age(as_alice: LoggedInClient, today_is: Travel) -> None:
    today_is("2026-02-27")
    patient = as_alice.post("/api/patients/", {"name": "Leap", "birth_date": "1992-02-29"}).json()
    assert (patient["age"], patient["birth_year"]) == (33, 1992)
    today_is("2026-03-01")
    assert as_alice.get(f"/api/patients/{patient['id']}/").json()["age"] == 34


@pytest.mark.parametrize(
    ("body", "age"),
    [
        ({"age": 34, "birth_date": "1992-05-01"}, 34),
        ({"age": 33, "birth_date": "1992-12-01"}, 33),
        ({"age": 34, "birth_year": 1992}, 34),
        ({"birth_year": 1992, "birth_date": "1992-12-01"}, 33),
        ({"age": 34, "birth_year": 1992, "birth_date": "1992-05-01"}, 34),
        ({"age": 0}, 0),
        ({"age": 150}, 150),
        ({"age": None}, None),
        ({"age": None, "birth_date": None, "birth_year": None}, None),
    ],
)
def test_an_age_a_year_and_a_date_that_agree_are_accepted(
    as_alice: LoggedInClient, today_is: Travel, body: dict[str, Any], age: int | None
) -> None:
    today_is("2026-11-22")
    answer = as_alice.post("/api/patients/", {"name": "X", **body})
    assert (answer.status_code, answer.json()["age"]) == (201, age)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"age": 35, "birth_date": "1992-05-01"}, "/age"),
        ({"age": 34, "birth_date": "1992-12-01"}, "/age"),
        ({"age": 34, "birth_year": 1991}, "/age"),
        ({"birth_year": 1991, "birth_date": "1992-12-01"}, "/birth_year"),
        ({"age": None, "birth_date": "1992-12-01"}, "/age"),
        ({"birth_year": None, "birth_date": "1992-12-01"}, "/birth_year"),
    ],
)
def test_an_age_a_year_and_a_date_that_contradict_each_other_are_refused(
    as_alice: LoggedInClient, today_is: Travel, body: dict[str, Any], pointer: str
) -> None:
    today_is("2026-11-22")
    answer = as_alice.post("/api/patients/", {"name": "X", **body})
    assert answer.status_code == 400
    assert [(error["pointer"], error["code"]) for error in answer.json()["errors"]] == [(pointer, "contradiction")]


@pytest.mark.parametrize(
    ("stored", "patch", "status", "birth"),
    [
        ({"age": 34}, {"age": 40}, 200, (None, 1986)),
        ({"age": 34}, {"birth_date": "1992-03-01"}, 200, ("1992-03-01", 1992)),
        ({"age": 34}, {"birth_date": "1991-03-01"}, 200, ("1991-03-01", 1991)),
        ({"age": 34}, {"age": None}, 200, (None, None)),
        ({"age": 34}, {"name": "Y"}, 200, (None, 1992)),
        ({"age": 34}, {"birth_date": None}, 200, (None, 1992)),
        ({"birth_date": "1992-03-01"}, {"age": 34}, 200, ("1992-03-01", 1992)),
        ({"birth_date": "1992-03-01"}, {"age": 40}, 400, ("1992-03-01", 1992)),
        ({"birth_date": "1992-03-01"}, {"birth_year": 1980}, 400, ("1992-03-01", 1992)),
        ({"birth_date": "1992-03-01"}, {"birth_date": None, "age": 40}, 200, (None, 1986)),
        ({"birth_date": "1992-03-01"}, {"birth_date": None, "birth_year": 1992}, 200, (None, 1992)),
        ({"birth_date": "1992-03-01"}, {"birth_date": None}, 200, (None, None)),
        ({"birth_date": "1992-03-01"}, {"birth_date": "1993-03-01"}, 200, ("1993-03-01", 1993)),
    ],
)
def test_a_patch_of_the_age_or_the_year_keeps_a_known_birth_date(
    as_alice: LoggedInClient,
    today_is: Travel,
    stored: dict[str, Any],
    patch: dict[str, Any],
    status: int,
    birth: tuple[str | None, int | None],
) -> None:
    today_is("2026-11-22")
    patient = as_alice.post("/api/patients/", {"name": "X", **stored}).json()
    assert as_alice.patch(f"/api/patients/{patient['id']}/", patch).status_code == status
    after = as_alice.get(f"/api/patients/{patient['id']}/").json()
    assert (after["birth_date"], after["birth_year"]) == birth


def test_an_age_is_never_negative() -> None:
    assert age_on(datetime.date(2026, 1, 1), None, 2027) == 0


class UnreadPatient:
    """Stands for a patient on record; reading one of its fields fails the test."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was read.")


@pytest.mark.parametrize(
    "body",
    [{"name": "Y"}, {"birth_date": "1992-03-14"}, {"birth_date": "1992-03-14", "birth_year": 1992},
     {"birth_date": None, "birth_year": 1990}, {"deceased": True}, {"deceased_on": "2020-01-01"},
     {"birth_date": None, "age": 34, "deceased_on": None, "deceased": None}],
)  # fmt: skip
def test_a_patch_whose_body_decides_does_not_read_the_patient(body: dict[str, Any]) -> None:
    patch = PatientSerializer(UnreadPatient(), data=body, partial=True)
    assert patch.is_valid(), patch.errors


@pytest.mark.parametrize(
    "body", [{"age": 34}, {"birth_year": 1992}, {"birth_date": None}, {"birth_date": None, "age": 34}]
)
def test_a_patch_that_leaves_the_life_open_reads_the_patient(body: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match=r"(birth_date|deceased_on) was read"):
        PatientSerializer(UnreadPatient(), data=body, partial=True).is_valid()
