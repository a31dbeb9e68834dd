"""Two patients of alice that are one person: the survivor and the duplicate."""

import datetime

import pytest

from accounts.models import User
from patients.models import Patient
from patients.tests.factories import make_patient


@pytest.fixture
def survivor(alice: User) -> Patient:
    return make_patient(alice, gender="U", phone="1")


@pytest.fixture
def duplicate(alice: User) -> Patient:
    return make_patient(
        alice, name="J. Smith", gender="M", birth_date=datetime.date(1990, 7, 1), phone="2", address="Bengaluru",
        deceased=True,
    )  # fmt: skip
