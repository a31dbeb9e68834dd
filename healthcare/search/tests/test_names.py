"""What a search finds of the names people ask for, and what it does not."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import transaction

from accounts.models import User
from conftest import LoggedInClient
from healthcare.search.tests.names import CASES, PEOPLE
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


@contextmanager
def rolled_back() -> Iterator[None]:
    """Undo what the block does to the people, who are inserted once a test: that takes longer than a search."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.mark.usefixtures("people")
def test_a_search_finds(as_alice: LoggedInClient, alice: User, subtests: pytest.Subtests) -> None:
    for case in CASES:
        with subtests.test(case.asked), rolled_back():
            answer = as_alice.get("/api/patients/", {"search": case.asked})
            assert answer.status_code == 200
            found = [row["name"] for row in answer.json()]
            assert {row["created_by"] for row in answer.json()} <= {alice.pk}
            assert case.not_finds not in found
            assert case.finds in found if case.finds else found == []


@pytest.mark.usefixtures("people")
def test_a_similar_name_with_the_same_birth_date_is_a_likely_duplicate(
    as_alice: LoggedInClient, alice: User, subtests: pytest.Subtests
) -> None:
    for case in [case for case in CASES if case.finds]:
        with subtests.test(case.asked), rolled_back():
            body = {"name": case.asked, "birth_date": BORN}
            answer = as_alice.post("/api/patients/?on_duplicate=reject", body)
            duplicates = [] if answer.status_code == 201 else answer.json()["duplicates"]
            assert {row["created_by"] for row in duplicates} <= {alice.pk}
            assert (case.finds in [row["name"] for row in duplicates]) == case.likely_duplicate
            assert case.not_finds not in [row["name"] for row in duplicates]


@pytest.mark.usefixtures("people")
def test_the_same_name_with_another_birth_date_is_another_person(
    as_alice: LoggedInClient, subtests: pytest.Subtests
) -> None:
    for case in [case for case in CASES if case.likely_duplicate]:
        with subtests.test(case.asked), rolled_back():
            body = {"name": case.asked, "birth_date": "1980-05-18"}
            assert as_alice.post("/api/patients/?on_duplicate=reject", body).status_code == 201
