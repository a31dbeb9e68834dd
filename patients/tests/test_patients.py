"""/api/patients/: alice owns patients, bob is an outsider."""

import re
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from conftest import LoggedInClient
from healthcare.tests.planner import rewrite_and_analyze
from patients.models import Patient
from patients.tests.factories import make_patient

JOHN = {"name": "John Smith", "age": 34, "gender": "M", "address": "Bengaluru"}


def test_alice_creates_a_patient_and_reads_the_same_back(as_alice: LoggedInClient, alice: User) -> None:
    created = as_alice.post("/api/patients/", JOHN)
    assert created.status_code == 201
    assert created.json() == {
        "id": created.json()["id"],
        **JOHN,
        "birth_date": None,
        "birth_year": timezone.localdate().year - 34,
        "deceased": None,
        "deceased_on": None,
        "identifier": "",
        "identifiers": [],
        "phone": "",
        "alternate_phone": "",
        "email": "",
        "language": "",
        "contacts": [],
        "medical_history": "",
        "version": 1,
        "created_by": alice.pk,
        "created_at": created.json()["created_at"],
        "updated_at": created.json()["updated_at"],
    }
    assert as_alice.get(f"/api/patients/{created.json()['id']}/").json() == created.json()


def test_only_the_name_is_required(as_alice: LoggedInClient) -> None:
    body = as_alice.post("/api/patients/", {"name": "Ana"}).json()
    assert (body["name"], body["age"], body["gender"], body["birth_year"]) == ("Ana", None, "U", None)


def test_every_writable_field_is_stored(as_alice: LoggedInClient) -> None:
    full = {
        "name": "José 李 👩‍⚕️",
        "gender": "O",
        "birth_date": "1990-02-28",
        "deceased": True,
        "identifier": "MRN-1",
        "phone": "+49 (30) 1234-5 x7",
        "email": "jose@example.org",
        "address": "First line\nsecond line",
    }
    body = as_alice.post("/api/patients/", full).json()
    assert {field: body[field] for field in full} == full


def test_bob_cannot_see_alices_patients(as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    assert as_bob.get("/api/patients/").json() == []
    assert as_bob.get(f"/api/patients/{patient.pk}/").status_code == 404
    assert [row["id"] for row in as_alice.get("/api/patients/").json()] == [patient.pk]


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_bob_cannot_change_alices_patient(method: str, as_bob: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    assert getattr(as_bob, method)(f"/api/patients/{patient.pk}/", {"name": "Bob's"}).status_code == 404
    patient.refresh_from_db()
    assert (patient.name, patient.version, patient.deleted_at) == ("John Smith", 1, None)


def test_the_creator_is_the_caller_whatever_the_body_says(as_bob: LoggedInClient, alice: User, bob: User) -> None:
    body = {"name": "X", "created_by": alice.pk, "id": 999999, "version": 7}
    assert as_bob.post("/api/patients/", body | {"deleted_at": "2020-01-01T00:00:00Z"}).status_code == 400
    created = as_bob.post("/api/patients/", body).json()
    assert (created["created_by"], created["version"]) == (bob.pk, 1)
    assert created["id"] != 999999
    assert Patient.objects.get().deleted_at is None


def test_put_changes_a_patient_and_increments_the_version(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    answer = as_alice.put(f"/api/patients/{patient.pk}/", {"name": "Jon", "gender": "F", "age": 20})
    assert answer.status_code == 200
    assert (answer.json()["name"], answer.json()["gender"], answer.json()["age"]) == ("Jon", "F", 20)
    assert answer.json()["version"] == 2
    assert as_alice.get(f"/api/patients/{patient.pk}/").json() == answer.json()


def test_put_without_the_name_is_refused(as_alice: LoggedInClient, alice: User) -> None:
    answer = as_alice.put(f"/api/patients/{make_patient(alice).pk}/", {"gender": "F"})
    assert answer.status_code == 400
    assert answer.json()["errors"] == [{"pointer": "/name", "code": "required", "detail": "This field is required."}]


def test_patch_writes_only_the_columns_that_were_sent(as_alice: LoggedInClient, alice: User, settings: Any) -> None:
    settings.DB_PREPARED_STATEMENTS = False  # the text of an executed statement is its name alone
    patient = make_patient(alice)
    for mode in ("on", "off"):
        settings.FAST_PATH = mode
        with CaptureQueriesContext(connection) as queries:
            as_alice.patch(f"/api/patients/{patient.pk}/", {"phone": f"123 {len(mode)}"})
        (update,) = [query["sql"] for query in queries if 'UPDATE "patients_patient"' in query["sql"]]
        changes = update.partition('UPDATE "patients_patient" SET ')[2].partition(" WHERE ")[0]
        assert set(re.findall(r'"(\w+)" = ', changes)) == {"phone"}  # version and updated_at are the trigger's


def test_a_patch_with_unchanged_values_changes_nothing(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    for body in ({}, {"name": "John Smith", "gender": "male"}):
        answer = as_alice.patch(f"/api/patients/{patient.pk}/", body)
        assert (answer.status_code, answer.json()["version"], answer.json()["name"]) == (200, 1, "John Smith")


def test_delete_hides_the_record_and_keeps_its_row(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    assert as_alice.delete(f"/api/patients/{patient.pk}/").status_code == 204
    assert as_alice.get("/api/patients/").json() == []
    for method in ("get", "patch", "delete"):
        assert getattr(as_alice, method)(f"/api/patients/{patient.pk}/", {}).status_code == 404
    patient.refresh_from_db()
    assert patient.deleted_at is not None
    assert (patient.name, patient.version) == ("John Smith", 2)


@pytest.mark.parametrize(
    ("sent", "stored"),
    [("M", "M"), ("f", "F"), ("male", "M"), ("FEMALE", "F"), ("Other", "O"), ("unknown", "U"), (" u ", "U")],
)
def test_gender_accepts_codes_and_words_and_returns_codes(as_alice: LoggedInClient, sent: str, stored: str) -> None:
    assert as_alice.post("/api/patients/", {"name": "X", "gender": sent}).json()["gender"] == stored


def test_a_gender_that_is_not_selected_in_a_form_is_unknown(as_alice: LoggedInClient) -> None:
    created = as_alice.post("/api/patients/", {"name": "X", "gender": ""})
    assert (created.status_code, created.json().get("gender")) == (201, "U")
    path = f"/api/patients/{created.json()['id']}/"
    as_alice.patch(path, {"gender": "F"})
    assert as_alice.patch(path, {"gender": ""}).json()["gender"] == "U"
    assert as_alice.put(path, {"name": "X", "gender": ""}).json()["gender"] == "U"


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/name", "required"),
        ({"name": ""}, "/name", "blank"),
        ({"name": "   "}, "/name", "blank"),
        ({"name": None}, "/name", "null"),
        ({"name": "\u200b\u200d"}, "/name", "blank"),
        ({"name": "two\nlines"}, "/name", "invalid"),
        ({"name": "x" * 201}, "/name", "max_length"),
        ({"name": ["x"]}, "/name", "invalid"),
        ({"name": "X", "gender": "banana"}, "/gender", "invalid_choice"),
        ({"name": "X", "gender": None}, "/gender", "null"),
        ({"name": "X", "gender": 1}, "/gender", "invalid_choice"),
        ({"name": "X", "gender": ["M"]}, "/gender", "invalid_choice"),
        ({"name": "X", "age": -1}, "/age", "min_value"),
        ({"name": "X", "age": 151}, "/age", "max_value"),
        ({"name": "X", "age": "old"}, "/age", "invalid"),
        ({"name": "X", "age": True}, "/age", "invalid"),
        ({"name": "X", "age": 34.5}, "/age", "invalid"),
        ({"name": "X", "birth_date": "1990-02-30"}, "/birth_date", "invalid"),
        ({"name": "X", "birth_date": "9999-12-31"}, "/birth_date", "invalid"),
        ({"name": "X", "birth_date": "0001-01-01"}, "/birth_date", "invalid"),
        ({"name": "X", "birth_year": 1500}, "/birth_year", "min_value"),
        ({"name": "X", "email": "nobody"}, "/email", "invalid"),
        ({"name": "X", "phone": "call me"}, "/phone", "invalid"),
        ({"name": "X", "phone": "1" * 41}, "/phone", "max_length"),
        ({"name": "X", "deceased": "perhaps"}, "/deceased", "invalid"),
    ],
)
def test_invalid_input_names_the_field_and_changes_nothing(
    as_alice: LoggedInClient, body: dict[str, Any], pointer: str, code: str
) -> None:
    answer = as_alice.post("/api/patients/", body)
    assert answer.status_code == 400
    assert [(error["pointer"], error["code"]) for error in answer.json()["errors"]] == [(pointer, code)]
    assert not Patient.objects.exists()


def test_a_list_is_a_bare_array_newest_first(as_alice: LoggedInClient, alice: User) -> None:
    patients = [make_patient(alice, name=f"P{number}").pk for number in range(3)]
    assert [row["id"] for row in as_alice.get("/api/patients/").json()] == patients[::-1]


QUERIES_OF_A_LIST = ["entering as the caller, the page and the row of the access log"]


@pytest.mark.parametrize("rows", [10, 100])
def test_the_query_count_of_a_list_does_not_grow_with_its_rows(
    as_alice: LoggedInClient, alice: User, rows: int, settings: Any
) -> None:
    settings.FAST_PATH = "on"
    Patient.objects.bulk_create(Patient(created_by=alice, name=f"P{number}") for number in range(rows))
    with CaptureQueriesContext(connection) as queries:
        assert len(as_alice.get("/api/patients/").json()) == rows
    statements = [query["sql"] for query in queries if not query["sql"].startswith(("SAVEPOINT", "RELEASE"))]
    assert len(statements) == len(QUERIES_OF_A_LIST), statements


def test_a_page_is_read_from_the_composite_index(alice: User, bob: User) -> None:
    Patient.objects.bulk_create(Patient(created_by=bob, name="other") for _ in range(2000))
    rewrite_and_analyze("patients_patient")
    plan = Patient.objects.owned_by(alice).active().order_by("-pk")[:101].explain()
    assert "patient_list" in plan
    assert "Sort" not in plan
