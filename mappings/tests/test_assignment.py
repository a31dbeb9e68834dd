"""GET /api/assignments/<id>/: one assignment, with the ETag that a change of it needs; and Location of every 201."""

from typing import Any

import pytest

from accounts.models import User
from conftest import PASSWORD, LoggedInClient
from doctors.tests.factories import make_doctor
from mappings.tests.factories import make_mapping, make_past_mapping
from patients.merges import merge
from patients.models import Patient
from patients.tests.factories import make_patient


def test_a_new_assignment_is_found_at_its_location(as_alice: LoggedInClient, alice: User) -> None:
    body = {"patient": make_patient(alice).pk, "doctor": make_doctor(alice).pk}
    created = as_alice.post("/api/mappings/", body)
    assert created.headers["Location"] == f"/api/assignments/{created.json()['id']}/"
    read = as_alice.get(created.headers["Location"])
    assert (read.json(), read.headers["ETag"]) == (created.json(), created.headers["ETag"])
    path = f"/api/mappings/{created.json()['id']}/"
    assert as_alice.patch(path, {"role": "GP"}, HTTP_IF_MATCH=read.headers["ETag"]).status_code == 200
    assert as_alice.patch(path, {"role": "X"}, HTTP_IF_MATCH=read.headers["ETag"]).status_code == 412
    assert as_alice.get(created.headers["Location"], HTTP_IF_NONE_MATCH=read.headers["ETag"]).status_code == 200


def test_a_past_assignment_is_read_and_another_users_is_not(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User
) -> None:
    past = make_past_mapping(make_patient(alice), make_doctor(alice))
    assert as_alice.get(f"/api/assignments/{past.pk}/").json()["ended_at"]
    assert as_bob.get(f"/api/assignments/{past.pk}/").status_code == 404
    assert as_alice.post(f"/api/assignments/{past.pk}/", {}).status_code == 405


def test_an_assignment_of_a_deleted_patient_is_a_404(as_alice: LoggedInClient, alice: User) -> None:
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    Patient.objects.filter(pk=mapping.patient_id).end()
    assert as_alice.get(f"/api/assignments/{mapping.pk}/").status_code == 404


@pytest.mark.parametrize("key", [{}, {"HTTP_IDEMPOTENCY_KEY": "k"}])
@pytest.mark.parametrize("path", ["/api/patients/", "/api/doctors/"])
def test_every_201_has_a_location(as_alice: LoggedInClient, path: str, key: dict[str, Any]) -> None:
    for _ in range(2):
        created = as_alice.post(path, {"name": "X"}, **key)
        assert created.headers["Location"] == f"{path}{created.json()['id']}/"
        assert as_alice.get(created.headers["Location"]).json() == created.json()


@pytest.mark.django_db(transaction=True)
def test_the_location_of_a_registration_is_the_account(as_bob: LoggedInClient) -> None:
    body = {"name": "Eve", "email": "eve@example.org", "username": "eve", "password": PASSWORD}
    assert as_bob.post("/api/auth/register/", body).headers["Location"] == "/api/auth/me/"


@pytest.mark.parametrize("path", ["/api/patients/{}/", "/api/patients/{}/doctors/", "/api/mappings/{}/"])
def test_a_410_never_links_to_a_404(as_alice: LoggedInClient, alice: User, path: str) -> None:
    first, second, third = (make_patient(alice) for _ in range(3))
    merge(second, first)
    merge(third, second)
    for patient in (first, second):
        answer = as_alice.get(path.format(patient.pk))
        assert (answer.status_code, answer.headers["Link"].split(">")[0][1:]) == (410, f"/api/patients/{third.pk}/")
    Patient.objects.filter(pk=third.pk).end()
    for patient in (first, second):
        answer = as_alice.get(path.format(patient.pk))
        assert (answer.status_code, "Link" in answer.headers) == (410, False)
        assert answer.json()["detail"] == "Another record has replaced this one, and that one has been deleted."
