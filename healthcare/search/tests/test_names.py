"""What a search finds of the names people ask for, and what it does not."""

import pytest

from accounts.models import User
from conftest import LoggedInClient
from healthcare.search.tests.names import CASES, PEOPLE, Case
from patients.models import Patient

BORN = "1980-05-17"


@pytest.fixture
def people(alice: User, bob: User) -> None:
    for owner in (alice, bob):
        Patient.objects.bulk_create(
            Patient(created_by=owner, name=name, birth_date=BORN, birth_year=1980) for name in PEOPLE
        )


def test_there_are_enough_names() -> None:
    assert len(CASES) >= 60
    assert {case.finds for case in CASES} | {case.not_finds for case in CASES} <= {*PEOPLE, ""}


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.asked)
def test_a_search_finds(as_alice: LoggedInClient, alice: User, case: Case) -> None:
    answer = as_alice.get("/api/patients/", {"search": case.asked})
    assert answer.status_code == 200
    found = [row["name"] for row in answer.json()]
    assert {row["created_by"] for row in answer.json()} <= {alice.pk}
    assert case.not_finds not in found
    assert case.finds in found if case.finds else found == []


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("case", [case for case in CASES if case.finds], ids=lambda case: case.asked)
def test_somebody_who_is_called_so_and_was_born_that_day_is_likely_there_already(
    as_alice: LoggedInClient, alice: User, case: Case
) -> None:
    answer = as_alice.post("/api/patients/?on_duplicate=reject", {"name": case.asked, "birth_date": BORN})
    twins = [] if answer.status_code == 201 else answer.json()["duplicates"]
    assert {row["created_by"] for row in twins} <= {alice.pk}
    assert (case.finds in [row["name"] for row in twins]) == case.twin
    assert case.not_finds not in [row["name"] for row in twins]


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("case", [case for case in CASES if case.twin], ids=lambda case: case.asked)
def test_the_same_name_on_another_day_is_another_person(as_alice: LoggedInClient, case: Case) -> None:
    answer = as_alice.post("/api/patients/?on_duplicate=reject", {"name": case.asked, "birth_date": "1980-05-18"})
    assert answer.status_code == 201
