"""Likely duplicates of a patient of alice: who they are, what they agree on, and a POST that refuses to add one."""

import datetime
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from audit.models import AccessLog
from conftest import LoggedInClient
from healthcare.tests.concurrent_calls import call_concurrently
from healthcare.tests.live import LiveServer
from patients.models import Patient
from patients.tests.factories import make_patient

BORN = datetime.date(1990, 5, 17)
ASHA: dict[str, Any] = {
    "name": "Asha Nair", "gender": "F", "birth_date": BORN, "birth_year": 1990, "phone": "+91 80 5550 0100",
    "email": "asha@example.org", "identifier": "M-1",
}  # fmt: skip
REJECT = "/api/patients/?on_duplicate=reject"


def likely_duplicates(client: LoggedInClient, patient: Patient) -> list[tuple[str, list[str]]]:
    answer = client.get(f"/api/patients/{patient.pk}/duplicates/")
    assert answer.status_code == 200, answer.content
    return [(row["name"], row["agrees_on"]) for row in answer.json()]


def test_the_likeliest_duplicate_comes_first_with_the_fields_that_agree(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice, **ASHA)
    make_patient(alice, name="Asha Nairr", birth_year=1990)
    make_patient(alice, name="Nair Asha", birth_date=BORN, phone="080-5550 0100")
    make_patient(alice, name="Quite Another", identifier="m1")
    make_patient(alice, name="Asha Nair")
    assert likely_duplicates(as_alice, patient) == [
        ("Nair Asha", ["name", "birth_date", "phone"]),
        ("Quite Another", ["identifier"]),
        ("Asha Nair", ["name"]),
        ("Asha Nairr", ["name", "birth_year"]),
    ]


def test_each_duplicate_is_a_whole_patient(as_alice: LoggedInClient, alice: User) -> None:
    patient, other = make_patient(alice, **ASHA), make_patient(alice, **ASHA)
    whole = as_alice.get(f"/api/patients/{other.pk}/").json()
    agreed = ["name", "identifier", "birth_date", "email", "gender", "phone"]
    assert as_alice.get(f"/api/patients/{patient.pk}/duplicates/").json() == [whole | {"agrees_on": agreed}]


@pytest.mark.parametrize(
    "other",
    [
        {"name": "Meera Rao", "phone": ASHA["phone"], "email": ASHA["email"]},  # a family shares them
        {"name": "Asha Nair", "birth_date": datetime.date(1950, 1, 1), "birth_year": 1950},  # a namesake
        {"name": "Ashe Nair"},  # alike, and nothing else is known
        {"name": "Asha"},
        {"name": "Meena Nair", "birth_date": BORN, "birth_year": 1990, "address": "Mysuru"},  # a sister of one birth
        {"name": "Asher Nairn", "birth_year": 1949, "phone": ASHA["phone"], "gender": "M"},
    ],
)
def test_other_people_are_no_duplicates(as_alice: LoggedInClient, alice: User, other: dict[str, Any]) -> None:
    patient = make_patient(alice, **ASHA, address="Mysuru")
    other_patient = make_patient(alice, **other)
    assert likely_duplicates(as_alice, patient) == likely_duplicates(as_alice, other_patient) == []


def test_duplicates_are_duplicates_of_each_other(as_alice: LoggedInClient, alice: User) -> None:
    pair = [make_patient(alice, **ASHA), make_patient(alice, **ASHA | {"name": "Aasha M. Nair", "identifier": ""})]
    for one, other in (pair, pair[::-1]):
        assert [name for name, _ in likely_duplicates(as_alice, one)] == [other.name]


def test_a_patient_of_unknown_birth_has_namesakes_as_duplicates(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice, name="Asha Nair", gender="U")
    make_patient(alice, name="Nair Asha", birth_date=BORN)
    make_patient(alice, name="Asha Nairr", birth_date=BORN)
    assert likely_duplicates(as_alice, patient) == [("Nair Asha", ["name"])]


def test_deleted_patients_and_bobs_are_no_duplicates(as_alice: LoggedInClient, alice: User, bob: User) -> None:
    patient, gone = make_patient(alice, **ASHA), make_patient(alice, **ASHA)
    make_patient(bob, **ASHA)
    as_alice.delete(f"/api/patients/{gone.pk}/")
    assert likely_duplicates(as_alice, patient) == []
    assert as_alice.get(f"/api/patients/{gone.pk}/duplicates/").status_code == 404


def test_on_duplicate_reject_refuses_a_duplicate_and_adds_nothing(as_alice: LoggedInClient, alice: User) -> None:
    other = make_patient(alice, **ASHA)
    body = {"name": "NAIR, Asha", "birth_date": "1990-05-17"}
    answer = as_alice.post(REJECT, body)
    assert (answer.status_code, answer.headers["Content-Type"]) == (409, "application/problem+json")
    problem = answer.json()
    assert problem == {
        "type": "about:blank", "title": "Conflict", "status": 409,
        "detail": "A likely duplicate exists; use it, or repeat the request without `on_duplicate=reject`.",
        "request_id": answer.headers["X-Request-Id"],
        "duplicates": [as_alice.get(f"/api/patients/{other.pk}/").json() | {"agrees_on": ["name", "birth_date"]}],
    }  # fmt: skip
    assert Patient.objects.count() == 1
    assert as_alice.post("/api/patients/", body).status_code == 201
    assert as_alice.post(REJECT, {"name": "Somebody Else"}).status_code == 201


@pytest.mark.parametrize("value", ["", "accept", "REJECT", "true"])
def test_any_other_value_of_on_duplicate_is_refused(as_alice: LoggedInClient, value: str) -> None:
    answer = as_alice.post(f"/api/patients/?on_duplicate={value}", {"name": "X"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/on_duplicate")
    assert not Patient.objects.exists()


def test_the_duplicates_in_an_answer_are_recorded_as_read(as_alice: LoggedInClient, alice: User) -> None:
    patient, other, _ = make_patient(alice, **ASHA), make_patient(alice, **ASHA), make_patient(alice, name="X")
    likely_duplicates(as_alice, patient)
    as_alice.post(REJECT, {"name": "Asha Nair", "identifier": "M-1"})
    listed, refused = AccessLog.objects.order_by("id")
    assert (listed.action, listed.patient_ids, listed.outcome) == ("patient.duplicates", [patient.pk, other.pk], 200)
    assert (refused.action, refused.patient_ids, refused.outcome) == ("patient.create", [patient.pk, other.pk], 409)


@pytest.mark.parametrize("rows", [1, 10, 100])
def test_the_query_count_does_not_grow_with_the_duplicates(as_alice: LoggedInClient, alice: User, rows: int) -> None:
    Patient.objects.bulk_create(Patient(created_by=alice, **ASHA) for _ in range(rows + 1))
    with CaptureQueriesContext(connection) as queries:
        assert len(likely_duplicates(as_alice, Patient.objects.all()[0])) == min(rows, 20)
    statements = [query["sql"] for query in queries if not query["sql"].startswith(("SAVEPOINT", "RELEASE"))]
    searches = ["like", "matches"] * 3  # by phone, e-mail and name
    asked = ["session and user", "the patient", *searches, "same numbers", "the duplicates", "the access log"]
    assert len(statements) - 1 == len(asked), statements  # and the test's own look at a patient


def test_of_concurrent_requests_that_add_the_same_person_one_succeeds(live: LiveServer) -> None:
    token = live.register()[1]["access"]
    add = partial(live.call, "POST", REJECT, {"name": "Asha Nair", "birth_date": "1990-05-17"}, token)
    assert sorted(answer.status for answer in call_concurrently(*[add] * 8)) == [201, *[409] * 7]
    assert len(live.call("GET", "/api/patients/", token=token).json) == 1
