"""Unknown query parameters are refused; unknown body fields with `Prefer: handling=strict`."""

import re
from typing import Any

import pytest
from django.db import transaction
from rest_framework.test import APIClient

from accounts.models import User
from conftest import PASSWORD, LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.api.schema_view import build_description
from healthcare.api.unknown_parameters import known_parameters
from healthcare.tests.declarations import Row, all_rows
from patients.models import Patient
from patients.serializers import PatientSerializer
from patients.tests.factories import make_patient
from patients.views import PatientViewSet

STRICT: dict[str, Any] = {"HTTP_PREFER": "handling=strict"}
OPERATIONS = [(row, method) for row in all_rows() if row.access != "PAGE" for method in row.methods]


def errors(answer: Any) -> list[tuple[str, str]]:
    assert answer.status_code == 400, answer.content
    return [(error["pointer"], error["code"]) for error in answer.json()["errors"]]


@pytest.mark.django_db(transaction=True)  # to change a password is more than one transaction
@pytest.mark.parametrize(("row", "method"), OPERATIONS, ids=lambda value: getattr(value, "route", value))
def test_every_operation_refuses_an_unknown_parameter(as_alice: LoggedInClient, row: Row, method: str) -> None:
    path = "/" + re.sub("<[^>]*>", "1", row.route)
    for query in ("gendre=M", "format=json"):
        answer = as_alice.generic(method, f"{path}?{query}", "{}", content_type="application/json")
        assert errors(answer) == [(f"/{query.partition('=')[0]}", "unknown")]


def test_a_misspelt_filter_does_not_return_the_whole_list(as_alice: LoggedInClient, alice: User) -> None:
    make_patient(alice)
    answer = as_alice.get("/api/patients/?gendre=F&brith_date_after=2000-01-01")
    assert answer.json()["errors"] == [
        {"pointer": f"/{name}", "code": "unknown", "detail": "Remove this parameter; this path does not support it."}
        for name in ("brith_date_after", "gendre")
    ]


def test_a_repeated_parameter_is_a_400(as_alice: LoggedInClient) -> None:
    assert errors(as_alice.get("/api/patients/?gender=M&gender=F")) == [("/gender", "repeated")]


def test_an_invalid_parameter_name_is_not_repeated_in_the_error(as_alice: LoggedInClient) -> None:
    for query in ("<script>=1", "a" * 65 + "=1", "%00=1", "=1", "%C3%A9=1"):
        assert errors(as_alice.get(f"/api/patients/?{query}")) == [("", "unknown")]


def test_authentication_precedes_the_check_of_parameters(anonymous: APIClient) -> None:
    assert anonymous.get("/api/patients/?gendre=M").status_code == 401


def test_an_unknown_field_is_ignored_without_strict_handling(as_alice: LoggedInClient, alice: User) -> None:
    body = {"name": "John Smith", "phon": "123", "birthdate": "1990-01-01"}
    lenient = as_alice.post("/api/patients/", body)
    assert (lenient.status_code, "Preference-Applied" in lenient.headers) == (201, False)
    answer = as_alice.post("/api/patients/", body, **STRICT)
    assert errors(answer) == [("/birthdate", "unknown"), ("/phon", "unknown")]
    assert answer.headers["Preference-Applied"] == "handling=strict"
    assert Patient.objects.count() == 1


def test_an_answer_can_be_sent_back_with_strict_handling(as_alice: LoggedInClient, alice: User) -> None:
    path = f"/api/patients/{make_patient(alice).pk}/"
    for method in (as_alice.put, as_alice.patch):
        answer = method(path, as_alice.get(path).json(), **STRICT)
        assert (answer.status_code, answer.headers["Preference-Applied"]) == (200, "handling=strict")


@pytest.mark.parametrize(
    ("header", "strict"),
    [
        ("handling=strict", True),
        ('respond-async, handling="strict"', True),
        ("Handling = Strict; x=1", True),
        ("handling=lenient", False),
        ("handling=strictly", False),
        ("xhandling=strict", False),
        ("return=minimal", False),
    ],
)
def test_the_preference_is_parsed_as_in_rfc_7240(as_alice: LoggedInClient, header: str, strict: bool) -> None:
    answer = as_alice.post("/api/patients/", {"name": "X", "odd": 1}, HTTP_PREFER=header)
    assert answer.status_code == (400 if strict else 201)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("post", "/api/doctors/", {"name": "X"}),
        ("patch", "/api/auth/me/", {"name": "X"}),
        ("post", "/api/auth/login/", {"username": "alice", "password": PASSWORD}),
        ("post", "/api/auth/password/", {"current_password": PASSWORD, "new_password": "EvenStronger456"}),
    ],
)
def test_strict_handling_applies_to_every_body(
    as_alice: LoggedInClient, method: str, path: str, body: dict[str, Any]
) -> None:
    assert errors(getattr(as_alice, method)(path, body | {"odd": 1}, **STRICT)) == [("/odd", "unknown")]
    assert getattr(as_alice, method)(path, body, **STRICT).status_code < 300


def test_strict_handling_applies_to_assignments_and_merges(as_alice: LoggedInClient, alice: User) -> None:
    patient, duplicate = make_patient(alice), make_patient(alice)
    body = {"duplicate": duplicate.pk, "keep": True}
    assert errors(as_alice.post(f"/api/patients/{patient.pk}/merge/", body, **STRICT)) == [("/keep", "unknown")]
    body = {"patient": patient.pk, "doctor": make_doctor(alice).pk}
    assert errors(as_alice.post("/api/mappings/", body | {"rol": "GP"}, **STRICT)) == [("/rol", "unknown")]


def test_a_serializer_class_that_needs_the_user_does_not_keep_the_server_from_starting(
    monkeypatch: pytest.MonkeyPatch, as_alice: LoggedInClient
):
    def get_serializer_class(self: Any) -> Any:
        return PatientSerializer if self.request.user.is_staff else PatientSerializer

    monkeypatch.setattr(PatientViewSet, "get_serializer_class", get_serializer_class)
    for cached in (build_description, known_parameters):
        cached.cache_clear()
    try:
        with transaction.atomic():  # describing this view authenticates an anonymous request
            assert "search" in known_parameters()["GET", "api/patients/"]
            transaction.set_rollback(True)
        assert as_alice.get("/api/patients/").status_code == 200
        assert as_alice.get("/api/patients/?serach=x").status_code == 400
    finally:
        for cached in (build_description, known_parameters):
            cached.cache_clear()
