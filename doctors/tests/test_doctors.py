"""/api/doctors/: anyone reads doctors, anyone with a token adds, changes and deletes them."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.models import User
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from mappings.tests.factories import make_mapping
from patients.tests.factories import make_patient

MEERA = {
    "name": "Dr. Meera Rao",
    "specialization": "Cardiology",
    "license_number": "KA-1234",
    "phone": "+91 80 1234",
    "email": "meera@example.org",
    "hospital": "City Hospital",
    "experience_years": 12,
}


def test_a_doctor_that_alice_adds_is_public(as_alice: LoggedInClient, anonymous: APIClient) -> None:
    created = as_alice.post("/api/doctors/", MEERA)
    assert created.status_code == 201
    body = created.json()
    stamps = {name: body[name] for name in ("id", "created_at", "updated_at")}
    assert body == {**MEERA, **stamps, "version": 1}
    assert anonymous.get(f"/api/doctors/{body['id']}/").json() == body
    assert anonymous.get("/api/doctors/").json() == [body]


def test_only_the_name_is_required(as_alice: LoggedInClient, alice: User) -> None:
    assert as_alice.post("/api/doctors/", {"name": "Dr. A"}).status_code == 201
    assert Doctor.objects.get().created_by == alice


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_an_anonymous_caller_can_change_nothing(method: str, anonymous: APIClient, alice: User) -> None:
    doctor = make_doctor(alice)
    path = "/api/doctors/" if method == "post" else f"/api/doctors/{doctor.pk}/"
    answer = getattr(anonymous, method)(path, {"name": "Changed"})
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, 'Bearer realm="api"')
    assert [row.name for row in Doctor.objects.all()] == ["Dr. Meera Rao"]


def test_bob_can_change_a_doctor_that_alice_added(as_bob: LoggedInClient, alice: User) -> None:
    doctor = make_doctor(alice)
    answer = as_bob.patch(f"/api/doctors/{doctor.pk}/", {"hospital": "St. Mary"})
    assert (answer.status_code, answer.json()["hospital"], answer.json()["version"]) == (200, "St. Mary", 2)
    doctor.refresh_from_db()
    assert doctor.created_by == alice


def test_put_replaces_the_named_fields(as_alice: LoggedInClient, alice: User) -> None:
    doctor = make_doctor(alice)
    answer = as_alice.put(f"/api/doctors/{doctor.pk}/", MEERA | {"name": "Dr. B"})
    assert (answer.status_code, answer.json()["name"], answer.json()["hospital"]) == (200, "Dr. B", "City Hospital")


def test_delete_hides_the_record_and_keeps_its_row(as_alice: LoggedInClient, anonymous: APIClient, alice: User) -> None:
    doctor = make_doctor(alice)
    assert as_alice.delete(f"/api/doctors/{doctor.pk}/").status_code == 204
    assert anonymous.get(f"/api/doctors/{doctor.pk}/").status_code == 404
    assert anonymous.get("/api/doctors/").json() == []
    assert as_alice.delete(f"/api/doctors/{doctor.pk}/").status_code == 404
    assert Doctor.objects.get().deleted_at is not None


def test_a_doctor_with_active_assignments_cannot_be_deleted(as_alice: LoggedInClient, alice: User, bob: User) -> None:
    doctor = make_doctor(alice)
    mapping = make_mapping(make_patient(bob), doctor)
    answer = as_alice.delete(f"/api/doctors/{doctor.pk}/")
    assert answer.status_code == 409
    assert answer.json()["detail"] == (
        "This doctor treats patients of other accounts, who have to end those assignments first; ask a member of staff."
    )
    assert set(answer.json()) == {"type", "title", "status", "detail", "request_id"}
    type(mapping).objects.end()
    assert as_alice.delete(f"/api/doctors/{doctor.pk}/").status_code == 204


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/name", "required"),
        ({"name": "\t"}, "/name", "blank"),
        ({"name": "X", "experience_years": -1}, "/experience_years", "min_value"),
        ({"name": "X", "experience_years": 101}, "/experience_years", "max_value"),
        ({"name": "X", "experience_years": 10**30}, "/experience_years", "max_value"),
        ({"name": "X", "email": "x@"}, "/email", "invalid"),
        ({"name": "X", "license_number": "1" * 101}, "/license_number", "max_length"),
    ],
)
def test_invalid_input_names_the_field_and_changes_nothing(
    as_alice: LoggedInClient, body: dict[str, Any], pointer: str, code: str
) -> None:
    answer = as_alice.post("/api/doctors/", body)
    assert answer.status_code == 400
    assert [(error["pointer"], error["code"]) for error in answer.json()["errors"]] == [(pointer, code)]
    assert not Doctor.objects.exists()


@pytest.mark.parametrize("rows", [10, 100])
def test_the_query_count_of_a_list_does_not_grow_with_its_rows(
    anonymous: APIClient, alice: User, rows: int, settings: Any
) -> None:
    settings.FAST_PATH = "on"
    Doctor.objects.bulk_create(Doctor(created_by=alice, name=f"D{number}") for number in range(rows))
    with CaptureQueriesContext(connection) as queries:
        assert len(anonymous.get("/api/doctors/").json()) == rows
    statements = [query["sql"] for query in queries if not query["sql"].startswith(("SAVEPOINT", "RELEASE"))]
    assert len(statements) == len(["entering as nobody and the page"]), statements
