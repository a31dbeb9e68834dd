"""What the fields accept: one JSON type each, and what HTML forms and Postman's variables make of it."""

from typing import Any

import pytest
from rest_framework.exceptions import ValidationError

from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.api.fields import TrueOrFalseField, WholeNumberField
from patients.tests.factories import make_patient


@pytest.mark.parametrize(("sent", "stored"), [("32", 32), ("032", 32), (32.0, 32), ("0", 0), ("", None), (None, None)])
def test_a_whole_number_may_be_a_text_of_digits(as_alice: LoggedInClient, sent: Any, stored: int | None) -> None:
    answer = as_alice.post("/api/patients/", {"name": "X", "age": sent})
    assert (answer.status_code, answer.json().get("age")) == (201, stored)


@pytest.mark.parametrize(
    "sent", ["3 2", " 32", "32.0", "+32", "٣٢", "３２", "1e1", "-", "0x20", True, [], {}, "9" * 50]
)
def test_other_texts_are_no_whole_numbers(as_alice: LoggedInClient, sent: Any) -> None:
    answer = as_alice.post("/api/patients/", {"name": "X", "age": sent})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/age")


def test_an_id_may_be_a_text_of_digits(as_alice: LoggedInClient, alice: User) -> None:
    patient, doctor = make_patient(alice), make_doctor(alice)
    body = {"patient": str(patient.pk), "doctor": str(doctor.pk), "is_primary": "true"}
    answer = as_alice.post("/api/mappings/", body).json()
    assert (answer["patient"], answer["doctor"], answer["is_primary"]) == (patient.pk, doctor.pk, True)


def test_null_for_an_optional_text_is_the_empty_text(as_alice: LoggedInClient) -> None:
    body = {"name": "X", "phone": None, "address": None, "email": None, "identifier": None}
    answer = as_alice.post("/api/patients/", body).json()
    assert {name: answer[name] for name in body} == {"name": "X"} | dict.fromkeys(body.keys() - {"name"}, "")
    changed = as_alice.patch(f"/api/patients/{answer['id']}/", {"phone": None, "name": "Y"})
    assert (changed.status_code, changed.json()["phone"]) == (200, "")


def test_null_for_a_required_text_is_an_error(as_alice: LoggedInClient) -> None:
    answer = as_alice.post("/api/patients/", {"name": None})
    assert [(error["pointer"], error["code"]) for error in answer.json()["errors"]] == [("/name", "null")]


def test_an_empty_date_is_null(as_alice: LoggedInClient) -> None:
    answer = as_alice.post("/api/patients/", {"name": "X", "birth_date": "", "birth_year": ""})
    assert (answer.status_code, answer.json()["birth_date"], answer.json()["birth_year"]) == (201, None, None)


@pytest.mark.parametrize("sent", ["True", "yes", "1", 1, 0, "", None])
def test_a_boolean_is_true_or_false(sent: Any) -> None:
    with pytest.raises(ValidationError):
        TrueOrFalseField().run_validation(sent)


def test_a_number_in_text_is_checked_for_its_range() -> None:
    with pytest.raises(ValidationError):
        WholeNumberField(min_value=0).run_validation("-1")
