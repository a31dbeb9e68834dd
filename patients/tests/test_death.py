"""Death: `deceased` and `deceased_on`, the age that stops there, and a merge that keeps what either record says."""

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from accounts.models import User
from conftest import LoggedInClient
from healthcare.tests.admin_pages import AdminClient, errors_of
from patients.models import Patient, PatientEvent
from patients.tests.factories import make_patient
from patients.tests.merging import merge, read, unmerge

Travel = Callable[[str], None]
DATE = datetime.date.fromisoformat


@pytest.fixture(autouse=True)
def today(monkeypatch: pytest.MonkeyPatch) -> Travel:
    """Sets the local date of the application, and not the clock of the tokens."""

    def travel(day: str) -> None:
        monkeypatch.setattr(timezone, "localdate", lambda *_: DATE(day))

    travel("2026-11-22")
    return travel


def life(body: dict[str, Any]) -> tuple[Any, ...]:
    return body["deceased"], body["deceased_on"], body["age"]


@pytest.mark.parametrize(
    ("stated", "answered"),
    [
        ({}, (None, None, None)),
        ({"deceased": None}, (None, None, None)),
        ({"deceased": "", "deceased_on": ""}, (None, None, None)),  # as forms send them
        ({"deceased": "true"}, (True, None, None)),
        ({"deceased": False, "birth_date": "1990-05-01"}, (False, None, 36)),
        ({"deceased": True, "birth_date": "1990-05-01"}, (True, None, None)),
        ({"deceased": True, "birth_year": 1990}, (True, None, None)),
        ({"deceased_on": "2020-04-30", "birth_date": "1990-05-01"}, (True, "2020-04-30", 29)),
        ({"deceased_on": "2020-05-01", "birth_date": "1990-05-01"}, (True, "2020-05-01", 30)),
        ({"deceased_on": "2020-05-01", "birth_year": 1990}, (True, "2020-05-01", 30)),
        ({"deceased_on": "1990-05-01", "birth_date": "1990-05-01"}, (True, "1990-05-01", 0)),
        ({"deceased_on": "2020-05-01", "deceased": True}, (True, "2020-05-01", None)),
        ({"deceased_on": "2020-05-01", "deceased": None}, (True, "2020-05-01", None)),
        ({"deceased_on": None, "deceased": False}, (False, None, None)),
        ({"deceased_on": "2026-11-22", "age": 34}, (True, "2026-11-22", 34)),
        ({"deceased_on": "2020-05-01", "age": 80}, (True, "2020-05-01", 80)),
        ({"deceased": True, "age": 80}, (True, None, None)),
        ({"deceased": True, "age": None, "birth_year": 1990}, (True, None, None)),
    ],
)
def test_death_is_stated_by_a_date_or_without_one(
    as_alice: LoggedInClient, today: Travel, stated: dict[str, Any], answered: tuple[Any, ...]
) -> None:
    created = as_alice.post("/api/patients/", {"name": "X", **stated})
    assert (created.status_code, life(created.json())) == (201, answered)
    path = f"/api/patients/{created.json()['id']}/"
    assert life(as_alice.get(path).json()) == life(as_alice.get("/api/patients/").json()[0]) == answered
    today("2036-11-22")
    age = created.json()["age"] if answered[0] or created.json()["age"] is None else created.json()["age"] + 10
    assert life(as_alice.get(path).json()) == (*answered[:2], age)
    whole = as_alice.get(path).json()
    assert as_alice.put(path, whole).json() == whole


def test_the_year_of_birth_follows_from_the_age_at_death(as_alice: LoggedInClient) -> None:
    body = as_alice.post("/api/patients/", {"name": "X", "age": 80, "deceased_on": "2020-05-01"}).json()
    assert (body["birth_year"], body["age"]) == (1940, 80)
    path = f"/api/patients/{body['id']}/"
    assert as_alice.patch(path, {"age": 81}).json()["birth_year"] == 1939
    assert as_alice.patch(path, {"age": 86}).json()["age"] == 86
    assert as_alice.post("/api/patients/", {"name": "X", "age": 80, "deceased": True}).json()["birth_year"] == 1946


@pytest.mark.parametrize(
    ("stated", "errors"),
    [
        ({"deceased_on": "2026-11-23"}, [("/deceased_on", "invalid")]),
        ({"deceased_on": "2999-01-01"}, [("/deceased_on", "invalid")]),
        ({"deceased_on": "1800-01-01"}, [("/deceased_on", "invalid")]),
        ({"deceased_on": "yesterday"}, [("/deceased_on", "invalid")]),
        ({"deceased": False, "deceased_on": "2020-05-01"}, [("/deceased", "contradiction")]),
        ({"birth_date": "1990-05-01", "deceased_on": "1990-04-30"}, [("/deceased_on", "contradiction")]),
        ({"birth_year": 1990, "deceased_on": "1989-12-31"}, [("/deceased_on", "contradiction")]),
        ({"birth_year": 1990, "age": 20, "deceased_on": "2020-12-31"}, [("/age", "contradiction")]),
        ({"birth_year": 1990, "age": 20, "deceased": True}, [("/age", "contradiction")]),
        ({"birth_year": 1990, "age": None, "deceased": False}, [("/age", "contradiction")]),
        ({"deceased": "yes"}, [("/deceased", "invalid")]),
        ({"deceased": 1}, [("/deceased", "invalid")]),
    ],
)
def test_what_contradicts_a_death_is_refused(
    as_alice: LoggedInClient, stated: dict[str, Any], errors: list[tuple[str, str]]
) -> None:
    refused = as_alice.post("/api/patients/", {"name": "X", **stated})
    assert refused.status_code == 400, refused.content
    assert [(error["pointer"], error["code"]) for error in refused.json()["errors"]] == errors
    assert not Patient.objects.exists()


@pytest.mark.parametrize(
    ("stored", "patch", "status", "answered"),
    [
        ({}, {"deceased_on": "2020-05-01"}, 200, (True, "2020-05-01")),
        ({"deceased": False}, {"deceased_on": "2020-05-01"}, 200, (True, "2020-05-01")),
        ({"deceased_on": "2020-05-01"}, {"deceased_on": None}, 200, (True, None)),
        ({"deceased_on": "2020-05-01"}, {"deceased_on": None, "deceased": False}, 200, (False, None)),
        ({"deceased_on": "2020-05-01"}, {"deceased_on": None, "deceased": None}, 200, (None, None)),
        ({"deceased_on": "2020-05-01"}, {"deceased": True}, 200, (True, "2020-05-01")),
        ({"deceased_on": "2020-05-01"}, {"deceased": False}, 400, (True, "2020-05-01")),
        ({"deceased_on": "2020-05-01"}, {"deceased": None}, 400, (True, "2020-05-01")),
        ({"birth_date": "1990-05-01"}, {"deceased_on": "1990-04-30"}, 400, (None, None)),
        ({"birth_year": 1990}, {"deceased_on": "1989-12-31"}, 400, (None, None)),
        ({"deceased_on": "2020-05-01"}, {"birth_date": "2020-05-02"}, 400, (True, "2020-05-01")),
        ({"deceased_on": "2020-05-01"}, {"birth_date": "2020-05-01"}, 200, (True, "2020-05-01")),
        ({"deceased_on": "2020-05-01"}, {"birth_year": 2021}, 400, (True, "2020-05-01")),
        ({"deceased_on": "2020-05-01"}, {"age": 30}, 200, (True, "2020-05-01")),
        ({"deceased": True}, {"phone": "1"}, 200, (True, None)),
    ],
)
@pytest.mark.parametrize("fast_path", ["on", "off"])
def test_a_patch_agrees_with_what_is_on_record(
    as_alice: LoggedInClient,
    settings: Any,
    stored: dict[str, Any],
    patch: dict[str, Any],
    status: int,
    answered: tuple[Any, ...],
    fast_path: str,
) -> None:
    path = f"/api/patients/{as_alice.post('/api/patients/', {'name': 'X', **stored}).json()['id']}/"
    settings.FAST_PATH = fast_path
    answer = as_alice.patch(path, patch)
    assert answer.status_code == status, answer.content
    assert life(as_alice.get(path).json())[:2] == answered
    if status == 400:
        (pointer,) = (f"/{name}" for name in patch)
        assert [(error["pointer"], error["code"]) for error in answer.json()["errors"]] == [(pointer, "contradiction")]


DEATHS: list[dict[str, Any]] = [
    {}, {"deceased": False}, {"deceased": True}, {"deceased": True, "deceased_on": DATE("2026-11-22")},
]  # fmt: skip
AGES: list[dict[str, Any]] = [
    {"birth_date": born, "birth_year": born.year} | death
    for born in map(DATE, ["1990-11-22", "1990-11-23", "1996-02-29", "2000-01-01", "2026-11-22"])
    for death in DEATHS
]
AGES += [
    {"birth_date": DATE(born), "birth_year": int(born[:4]), "deceased": True, "deceased_on": DATE(died)}
    for born, died in [
        ("1996-02-29", "2023-02-28"), ("1996-02-29", "2023-03-01"), ("1996-02-29", "2024-02-29"),
        ("1990-05-01", "2020-04-30"), ("1990-05-01", "2020-05-01"), ("1990-05-01", "1990-05-01"),
    ]
]  # fmt: skip
AGES += [{"birth_year": 1990}, {"birth_year": 1990, "deceased": True}, {"deceased": True}, {}]
AGES += [{"birth_year": 1990, "deceased": True, "deceased_on": DATE("2020-01-01")}]
AGES += [{"deceased": True, "deceased_on": DATE("2020-01-01")}]


def test_python_the_fast_path_and_the_filters_count_the_same_age(
    as_alice: LoggedInClient, alice: User, settings: Any
) -> None:
    people = [make_patient(alice, **fields) for fields in AGES]
    ages = {patient.pk: patient.age for patient in people}
    assert set(ages.values()) >= {None, 0, 26, 27, 28, 29, 30, 35, 36}
    for mode in ("off", "on"):
        settings.FAST_PATH = mode
        assert {row["id"]: row["age"] for row in as_alice.get("/api/patients/?limit=500").json()} == ages
        for age in range(40):
            for parameter, holds in (("age_min", int.__ge__), ("age_max", int.__le__)):
                found = as_alice.get(f"/api/patients/?limit=500&{parameter}={age}").json()
                assert {row["id"] for row in found} == {
                    key for key, years in ages.items() if years is not None and holds(years, age)
                }, (parameter, age)


def test_the_past_shows_the_age_of_then(as_alice: LoggedInClient) -> None:
    created = as_alice.post("/api/patients/", {"name": "X", "birth_year": 1990})
    path = f"/api/patients/{created.json()['id']}/"
    then = as_alice.get(f"{path}history/").json()[0]["at"]
    changed = as_alice.patch(path, {"deceased_on": "2020-05-01"}).json()
    assert changed["age"] == 30
    assert as_alice.get(path, {"as_of": then}).json()["deceased"] is None
    now = as_alice.get(f"{path}history/").json()[0]
    assert now["changes"] == {"deceased": [None, True], "deceased_on": [None, "2020-05-01"]}
    past = as_alice.get(path, {"as_of": now["at"]}).json()
    assert life(past) == (True, "2020-05-01", 30)


@pytest.mark.parametrize(
    ("survivor", "duplicate", "merged"),
    [
        ({}, {"deceased": True}, (True, None)),
        ({}, {"deceased": False}, (False, None)),
        ({}, {"deceased": True, "deceased_on": DATE("2020-05-01")}, (True, "2020-05-01")),
        ({"deceased": False}, {"deceased": True, "deceased_on": DATE("2020-05-01")}, (False, None)),
        ({"deceased": True}, {"deceased": False}, (True, None)),
        ({"deceased": True}, {"deceased": True, "deceased_on": DATE("2020-05-01")}, (True, "2020-05-01")),
        (
            {"deceased": True, "deceased_on": DATE("2020-05-02")},
            {"deceased": True, "deceased_on": DATE("2020-05-01")},
            (True, "2020-05-02"),
        ),
        (  # the survivor was born later
            {"birth_date": DATE("2020-05-02"), "birth_year": 2020},
            {"deceased": True, "deceased_on": DATE("2020-05-01")},
            (True, None),
        ),
        ({"birth_year": 2021}, {"deceased": True, "deceased_on": DATE("2020-05-01")}, (True, None)),
    ],
)
def test_a_merge_keeps_whichever_states_the_death_and_unmerging_takes_it_back(
    as_alice: LoggedInClient, alice: User, survivor: dict[str, Any], duplicate: dict[str, Any], merged: tuple[Any, ...]
) -> None:
    kept, dropped = make_patient(alice, **survivor), make_patient(alice, **duplicate)
    before = read(as_alice, kept), read(as_alice, dropped)
    assert life(merge(as_alice, kept, dropped).json())[:2] == merged
    assert life(unmerge(as_alice, kept, dropped).json()) == life(before[0])
    assert life(read(as_alice, dropped)) == life(before[1])


@pytest.mark.parametrize(
    ("born", "filled"),
    [
        ({"birth_date": DATE("2020-05-02"), "birth_year": 2020}, (None, 2020)),
        ({"birth_date": DATE("2021-01-01"), "birth_year": 2021}, (None, None)),
        ({"birth_year": 2021}, (None, None)),
        ({"birth_date": DATE("2020-05-01"), "birth_year": 2020}, ("2020-05-01", 2020)),
    ],
)
def test_a_merge_fills_in_no_birth_after_the_survivors_death(
    as_alice: LoggedInClient, alice: User, born: dict[str, Any], filled: tuple[Any, ...]
) -> None:
    survivor = make_patient(alice, deceased=True, deceased_on=DATE("2020-05-01"))
    body = merge(as_alice, survivor, make_patient(alice, **born)).json()
    assert (body["birth_date"], body["birth_year"]) == filled


def test_unmerging_keeps_a_date_of_death_that_was_given_since(as_alice: LoggedInClient, alice: User) -> None:
    survivor, duplicate = make_patient(alice), make_patient(alice, deceased=True, deceased_on=DATE("2020-05-01"))
    merge(as_alice, survivor, duplicate)
    as_alice.patch(f"/api/patients/{survivor.pk}/", {"deceased_on": "2020-05-03"})
    assert life(unmerge(as_alice, survivor, duplicate).json())[:2] == (True, "2020-05-03")


@pytest.mark.parametrize(
    "fields",
    [
        {"deceased": False, "deceased_on": DATE("2020-05-01")},
        {"deceased_on": DATE("2020-05-01")},
        {"deceased": True, "deceased_on": DATE("2020-05-01"), "birth_year": 2021},
        {"deceased": True, "deceased_on": DATE("2020-05-01"), "birth_year": 2020, "birth_date": DATE("2020-05-02")},
    ],
)
def test_the_database_refuses_a_contradiction_of_every_writer(alice: User, fields: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        make_patient(alice, **fields)


def test_staff_state_a_death_in_the_admin(staff: User, alice: User) -> None:
    client, patient = AdminClient(staff), make_patient(alice, birth_year=1990)
    path = f"/admin/patients/patient/{patient.pk}/change/"
    assert client.submit(path, deceased_on="2020-05-01").status_code == 302
    patient.refresh_from_db()
    assert (patient.deceased, str(patient.deceased_on), patient.age) == (True, "2020-05-01", 30)
    assert "deceased" in errors_of(client.submit(path, deceased="false"))
    assert "deceased_on" in errors_of(client.submit(path, deceased_on="2999-01-01"))
    assert "deceased_on" in errors_of(client.submit(path, deceased_on="1989-01-01"))
    assert client.submit(path, deceased="unknown", deceased_on="").status_code == 302
    patient.refresh_from_db()
    assert (patient.deceased, patient.deceased_on) == (None, None)


def test_an_erasure_removes_the_death_from_the_history_too(alice: User) -> None:
    patient = make_patient(alice, deceased=True, deceased_on=DATE("2020-05-01"))
    call_command("erase_patient", str(patient.pk), "--reason", "asked", "--yes")
    assert not PatientEvent.objects.filter(deceased_on=DATE("2020-05-01")).exists()


def test_the_sql_of_the_age_is_that_of_python_on_every_day(alice: User) -> None:
    patient = make_patient(alice, birth_date=DATE("1996-02-29"), birth_year=1996)
    with connection.cursor() as cursor:
        for day in ("1996-02-29", "2023-02-28", "2023-03-01", "2024-02-29", "2026-11-22"):
            Patient.objects.filter(pk=patient.pk).update(deceased=True, deceased_on=DATE(day))
            patient.refresh_from_db()
            sql = Patient.age.sql.replace("{today}", "%(today)s::date")
            cursor.execute(f"SELECT {sql} FROM patients_patient", {"today": "2026-11-22"})  # noqa: S608
            assert cursor.fetchone() == (patient.age,)
