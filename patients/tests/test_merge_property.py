"""For random patients and assignments, unmerging restores the state before the merge."""

import datetime
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.models import Patient
from patients.tests.factories import make_patient

TEXTS = st.sampled_from(["", "x", "José 李"])
BIRTHS = st.one_of(
    st.just({}),
    st.builds(lambda year: {"birth_year": year}, st.integers(1989, 1991)),
    st.builds(lambda day: {"birth_date": day}, st.dates(datetime.date(1989, 1, 1), datetime.date(1991, 12, 31))),
)
DEATHS = [
    {"deceased": True, "deceased_on": datetime.date(1991, 12, 31)},
    {"deceased": True, "deceased_on": datetime.date(2020, 5, 1)},
]
PAIRS = st.builds(
    lambda system, value: {"system": system, "value": value}, st.sampled_from(["a", "old"]), st.sampled_from(["x", "y"])
)
PATIENTS = st.builds(
    lambda birth, death, **fields: birth | death | fields,
    birth=BIRTHS,
    gender=st.sampled_from("MFOU"),
    phone=st.sampled_from(["", "1", "2"]),
    email=st.sampled_from(["", "a@example.org", "b@example.org"]),
    identifier=TEXTS,
    address=TEXTS,
    death=st.sampled_from([{}, {"deceased": False}, {"deceased": True}, *DEATHS]),
    identifiers=st.lists(PAIRS, unique_by=str, max_size=3),
    alternate_phone=st.sampled_from(["", "3"]),
    language=st.sampled_from(["", "kn"]),
    contacts=st.sampled_from([[], [{"name": "Mary", "relationship": "", "phone": ""}]]),
    medical_history=TEXTS,
)
ASSIGNMENTS = st.lists(  # which doctor, whether as the primary one, whether in the past
    st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=6
)
STAMPS = {"version", "updated_at"}
SEVERAL = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def give(patient: Patient, doctors: list[Any], assignments: list[tuple[int, bool, bool]]) -> None:
    """Create these assignments, except those that violate a constraint."""
    for number, primary, past in assignments:
        active = Mapping.objects.active().filter(patient=patient)
        if past:
            ended = {"started_at": timezone.now(), "ended_at": timezone.now() + datetime.timedelta(microseconds=1)}
            make_mapping(patient, doctors[number], is_primary=primary, **ended)
        elif not active.filter(doctor=doctors[number]).exists():
            primary &= not active.filter(is_primary=True).exists()
            make_mapping(patient, doctors[number], is_primary=primary)


def everything(client: LoggedInClient) -> list[Any]:
    """All that alice can list, without versions and times of change."""
    lists = ["/api/patients/", "/api/patients/?deleted=true", "/api/mappings/", "/api/mappings/?active=false"]
    answers = [client.get(f"{path}{'&' if '?' in path else '?'}limit=500").json() for path in lists]
    return [[{key: row[key] for key in row.keys() - STAMPS} for row in rows] for rows in answers]


@pytest.mark.slow
@pytest.mark.django_db
def test_unmerging_restores_the_state_before_the_merge(as_alice: LoggedInClient, alice: User) -> None:
    doctors = [make_doctor(alice) for _ in range(4)]

    @SEVERAL
    @given(st.tuples(PATIENTS, PATIENTS, PATIENTS), st.tuples(ASSIGNMENTS, ASSIGNMENTS, ASSIGNMENTS), st.booleans())
    def check(fields: Any, assignments: Any, in_a_chain: bool) -> None:
        with transaction.atomic():
            first, second, third = patients = [make_patient(alice, **one) for one in fields]
            for patient, given_ones in zip(patients, assignments, strict=True):
                give(patient, doctors, given_ones)
            before, rows = everything(as_alice), Mapping.objects.count()
            pairs = [(second, first), (third, second)] if in_a_chain else [(third, first), (third, second)]
            for survivor, duplicate in pairs:
                act(as_alice, "merge", survivor, duplicate)
            assert Mapping.objects.filter(patient=third).count() == rows
            for survivor, duplicate in pairs[::-1]:
                act(as_alice, "unmerge", survivor, duplicate)
            assert everything(as_alice) == before
            transaction.set_rollback(True)

    check()


def act(client: LoggedInClient, verb: str, survivor: Patient, duplicate: Patient) -> None:
    answer = client.post(f"/api/patients/{survivor.pk}/{verb}/", {"duplicate": duplicate.pk})
    assert answer.status_code == 200, answer.content
