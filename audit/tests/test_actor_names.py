"""`actor_name` beside `actor` in the history and in the access log."""

import json
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.delegations.models import Delegation
from accounts.models import User
from conftest import LoggedInClient, logged_in
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from mappings.erasure import erase_user
from mappings.tests.factories import make_mapping
from patients.models import Patient
from patients.tests.factories import make_patient

pytestmark = pytest.mark.django_db


@pytest.fixture(params=["on", "off"])
def path(request: pytest.FixtureRequest, settings: Any) -> None:
    """The fast path, and standard Django REST framework."""
    settings.FAST_PATH = request.param


@pytest.fixture
def asha(make_user: Any) -> User:
    user: User = make_user("asha", name="Asha “Ash” Nair\\")
    return user


@pytest.fixture
def as_asha(alice: User, asha: User) -> LoggedInClient:
    """A delegate of alice who acts for her."""
    Delegation.objects.create(owner=alice, delegate=asha, role="write")
    client = logged_in(asha)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {client.tokens['access']}", HTTP_X_ACTING_FOR="alice")
    return client


def actors(client: APIClient, route: str) -> list[tuple[int | None, str | None]]:
    answer = client.get(route)
    assert answer.status_code == 200, answer.content
    return [(row["actor"], row["actor_name"]) for row in answer.json()]


def test_the_history_names_who_made_each_change(
    path: None, as_alice: LoggedInClient, as_asha: LoggedInClient, alice: User, asha: User
):
    key = as_alice.post("/api/patients/", {"name": "John Smith", "age": 34, "gender": "M"}).json()["id"]
    assert as_asha.patch(f"/api/patients/{key}/", {"address": "Bengaluru"}).status_code == 200
    Patient.objects.filter(pk=key).update(phone="+44 20 7946 0000")  # as a command does
    expected = [(None, None), (asha.pk, asha.name), (alice.pk, alice.name)]
    assert actors(as_alice, f"/api/patients/{key}/history/") == expected
    assert actors(as_asha, f"/api/patients/{key}/history/") == expected


def test_the_access_log_names_who_read(
    path: None, as_alice: LoggedInClient, as_asha: LoggedInClient, alice: User, asha: User
):
    patient = make_patient(alice)
    for client in (as_alice, as_asha, as_asha):
        assert client.get(f"/api/patients/{patient.pk}/").status_code == 200
    expected = [(asha.pk, asha.name)] * 2 + [(alice.pk, alice.name)]
    assert actors(as_alice, f"/api/patients/{patient.pk}/access-log/") == expected
    assert actors(as_asha, f"/api/patients/{patient.pk}/access-log/") == [(alice.pk, alice.name), *expected]
    log = as_alice.get(f"/api/patients/{patient.pk}/access-log/").json()
    assert [row["basis"] for row in log] == ["delegate", "owner", "delegate", "delegate", "owner"]


def test_a_user_who_does_not_exist_any_more_has_no_name(
    path: None, as_alice: LoggedInClient, as_asha: LoggedInClient, alice: User, asha: User
):
    patient = make_patient(alice)
    assert as_asha.patch(f"/api/patients/{patient.pk}/", {"address": "Bengaluru"}).status_code == 200
    erase_user(asha, reason="asked for it", account="tests")
    assert actors(as_alice, f"/api/patients/{patient.pk}/history/")[0] == (asha.pk, None)
    assert (asha.pk, None) in actors(as_alice, f"/api/patients/{patient.pk}/access-log/")


def test_the_history_of_a_doctor_and_of_an_assignment_has_names_too(
    path: None, as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User
):
    added = as_bob.post("/api/doctors/", {"name": "Dr Rao", "specialization": "Cardiology", "license_number": "K-1"})
    doctor = Doctor.objects.get(pk=added.json()["id"])
    assert actors(as_alice, f"/api/doctors/{doctor.pk}/history/") == [(bob.pk, bob.name)]
    mapping = as_alice.post("/api/mappings/", {"patient": make_patient(alice).pk, "doctor": doctor.pk}).json()
    assert actors(as_alice, f"/api/mappings/{mapping['id']}/history/") == [(alice.pk, alice.name)]


def test_a_name_costs_no_statement(path: None, as_alice: LoggedInClient, as_asha: LoggedInClient, alice: User):
    patient = make_patient(alice)
    history, log = f"/api/patients/{patient.pk}/history/", f"/api/patients/{patient.pk}/access-log/"

    def statements() -> list[int]:
        counts = []
        for route in (history, log):
            with CaptureQueriesContext(connection) as queries:
                assert as_alice.get(route).status_code == 200
            counts.append(len(queries))
        return counts

    before = statements()
    for number in range(5):
        assert as_asha.patch(f"/api/patients/{patient.pk}/", {"address": f"{number} High Street"}).status_code == 200
    assert statements() == before


@pytest.mark.parametrize("route", ["history", "access-log"])
def test_both_paths_give_a_delegate_the_same_bytes(
    as_alice: LoggedInClient,
    as_asha: LoggedInClient,
    alice: User,
    asha: User,
    settings: Any,
    route: str,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level("INFO")
    patient = make_patient(alice)
    make_mapping(patient, make_doctor(alice))
    for number in range(4):
        client = as_asha if number % 2 else as_alice
        client.patch(f"/api/patients/{patient.pk}/", {"address": f"{number} “High” Street"})
    answers = []
    for settings.FAST_PATH in ("on", "off"):
        with transaction.atomic():  # rolled back: neither read is in the access log that the other one lists
            answers.append(as_asha.get(f"/api/patients/{patient.pk}/{route}/?limit=3").content)
            transaction.set_rollback(True)
        assert caplog.messages[-1].endswith("path=fast" if settings.FAST_PATH == "on" else "path=standard")
    assert answers[0] == answers[1]
    assert {row["actor_name"] for row in json.loads(answers[0])} == {alice.name, asha.name}


COUNTED = """
CREATE SEQUENCE lookups;
CREATE OR REPLACE FUNCTION named_user(user_id bigint) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$ BEGIN
    PERFORM nextval('lookups');
    RETURN (SELECT jsonb_build_object('name', name) FROM accounts_user WHERE id = user_id);
END $$;
"""
MANY_READS = """
INSERT INTO audit_accesslog (actor, action, patient_ids, basis, request_id, outcome)
SELECT %s, 'patient.retrieve', ARRAY[%s]::bigint[], 'owner', '', 200 FROM generate_series(1, 2000)
"""


@pytest.mark.parametrize("route", ["history", "access-log"])
def test_only_the_names_of_the_page_are_looked_up(path: None, as_alice: LoggedInClient, alice: User, route: str):
    patient = make_patient(alice)
    for number in range(20):
        Patient.objects.filter(pk=patient.pk).update(address=f"{number} High Street")
    with connection.cursor() as cursor:
        cursor.execute(MANY_READS, [alice.pk, patient.pk])
        cursor.execute(COUNTED)
        answer = as_alice.get(f"/api/patients/{patient.pk}/{route}/?limit=5")
        assert len(answer.json()) == 5
        cursor.execute("SELECT nextval('lookups')")
        assert cursor.fetchone()[0] in {6, 7}  # one row more may say whether there is another page
