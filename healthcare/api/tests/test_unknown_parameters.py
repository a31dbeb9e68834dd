"""Unknown query parameters and body fields are refused; fields not with `Prefer: handling=lenient`."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.models import User
from conftest import PASSWORD, LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.api.schema_view import build_description
from healthcare.api.suggestions import nearest_name
from healthcare.api.unknown_parameters import known_parameters
from healthcare.tests.cast import Cast
from healthcare.tests.declarations import SAFE_METHODS, Row, described_rows
from patients.models import Patient
from patients.serializers import PatientSerializer
from patients.tests.factories import make_patient
from patients.views import PatientViewSet

STRICT: dict[str, Any] = {"HTTP_PREFER": "handling=strict"}
OPERATIONS = [(row, method) for row in described_rows() if row.access != "PAGE" for method in row.methods]


def errors(answer: Any) -> list[tuple[str, str]]:
    assert answer.status_code == 400, answer.content
    return [(error["pointer"], error["code"]) for error in answer.json()["errors"]]


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)  # to change a password is more than one transaction
@pytest.mark.parametrize(("row", "method"), OPERATIONS, ids=lambda value: getattr(value, "route", value))
def test_every_operation_refuses_an_unknown_parameter(
    as_alice: LoggedInClient, alice: User, settings: Settings, row: Row, method: str
) -> None:
    settings.EMAIL_CONFIGURED = True
    User.objects.filter(pk=alice.pk).update(is_staff=row.access == "STAFF")
    path = "/" + re.sub("<[^>]*>", "1", row.route)
    codes = {"gendre=M": "unknown", "format=json": "invalid" if row.route.endswith("/export/") else "unknown"}
    for query, code in codes.items():
        answer = as_alice.generic(method, f"{path}?{query}", "{}", content_type="application/json")
        assert errors(answer) == [(f"/{query.partition('=')[0]}", code)]


def test_a_misspelt_filter_does_not_return_the_whole_list(as_alice: LoggedInClient, alice: User) -> None:
    make_patient(alice)
    body = as_alice.get("/api/patients/?gendre=F&brith_date_after=2000-01-01&zzz=1").json()
    assert body["errors"] == [
        {"pointer": f"/{name}", "code": "unknown", "detail": f"This path has no such parameter; {remedy}"}
        for name, remedy in (
            ("brith_date_after", "did you mean `birth_date_after`?"),
            ("gendre", "did you mean `gender`?"),
            ("zzz", "remove it."),
        )
    ]
    assert body["detail"] == f"brith_date_after: {body['errors'][0]['detail']}"
    assert body["error_count"] == 3


def test_a_repeated_parameter_is_a_400(as_alice: LoggedInClient) -> None:
    assert errors(as_alice.get("/api/patients/?gender=M&gender=F")) == [("/gender", "repeated")]


def test_a_list_of_names_may_be_repeated(as_alice: LoggedInClient, alice: User) -> None:
    make_patient(alice)
    make_patient(alice)
    answer = as_alice.get("/api/patients/?fields=id&fields=name&limit=1&include=doctors")
    assert set(answer.json()[0]) == {"id", "name", "doctors"}
    following = answer.headers["Link"].split(">")[0].strip("<")
    assert "fields=id%2Cname" in following
    assert set(as_alice.get(following).json()[0]) == {"id", "name", "doctors"}


@pytest.mark.parametrize("query", ["_=1", "_=1&_=2", "count=True&_=1732570000", "count=1", "search="])
def test_what_browsers_and_generators_add_is_accepted(as_alice: LoggedInClient, alice: User, query: str) -> None:
    make_patient(alice)
    answer = as_alice.get(f"/api/patients/?{query}")
    assert (answer.status_code, len(answer.json())) == (200, 1)
    assert ("X-Total-Count" in answer.headers) == query.startswith("count")


def test_a_cache_buster_of_a_post_is_unknown(as_alice: LoggedInClient) -> None:
    assert errors(as_alice.post("/api/patients/?_=1", {"name": "X"})) == [("/_", "unknown")]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("<script>=1", "/%3Cscript%3E"),
        ("patient[name]=1", "/patient[name]"),
        ("$filter=1", "/$filter"),
        ("a" * 65 + "=1", "/" + "a" * 64),
        ("%00=1", "/%00"),
        ("a/b=1", "/a~1b"),
        ("=1", "/"),
        ("%C3%A9=1", "/%C3%A9"),
    ],
)
def test_an_odd_parameter_is_named_percent_encoded(as_alice: LoggedInClient, query: str, pointer: str) -> None:
    assert errors(as_alice.get(f"/api/patients/?{query}")) == [(pointer, "unknown")]


def test_authentication_precedes_the_check_of_parameters(anonymous: APIClient) -> None:
    assert anonymous.get("/api/patients/?gendre=M").status_code == 401


def test_an_unknown_field_is_an_error_that_suggests_the_known_one(as_alice: LoggedInClient, alice: User) -> None:
    body = {"name": "John Doe", "date_of_birth": "1990-01-01", "phone_number": "98450 12345", "zzz": 43}
    answer = as_alice.post("/api/patients/", body)
    assert answer.json()["errors"] == [
        {"pointer": f"/{name}", "code": "unknown", "detail": f"Unknown field; {remedy}"}
        for name, remedy in (
            ("date_of_birth", "did you mean `birth_date`?"),
            ("phone_number", "did you mean `phone`?"),
            ("zzz", "remove it, or send `Prefer: handling=lenient` to ignore it."),
        )
    ]
    assert answer.json()["detail"] == "date_of_birth: Unknown field; did you mean `birth_date`?"
    assert not Patient.objects.exists()


@pytest.mark.parametrize(
    ("name", "sent", "suggestion"),
    [
        ("death_date", (), ""),  # not `birth_date`
        ("dateOfDeath", (), ""),
        ("note", (), ""),  # not `name`
        ("nmae", (), "name"),
        ("nam", (), "name"),
        ("birthDate", (), "birth_date"),
        ("year_of_birth", (), "birth_year"),
        ("email_address", (), "email"),
        ("home_address", (), "address"),
        ("contact_name", (), "contacts"),
        ("first_name", (), "name"),
        ("first_name", ("name",), ""),
        ("second_phone", ("phone",), "alternate_phone"),
        ("medical_record_number", (), ""),
    ],
)
def test_a_suggestion_does_not_mislead(name: str, sent: tuple[str, ...], suggestion: str) -> None:
    known = {field for field, one in PatientSerializer().fields.items() if not one.read_only}
    assert nearest_name(name, known, set(sent)) == (suggestion or None)


def test_the_phone_of_a_doctor_is_no_license_number(as_alice: LoggedInClient) -> None:
    answer = as_alice.post("/api/doctors/", {"name": "X", "phone_number": "98450"})
    assert answer.json()["detail"] == "phone_number: Unknown field; did you mean `phone`?"


def test_another_name_of_a_field_that_was_sent_is_not_suggested(anonymous: APIClient) -> None:
    body = {"name": "Eve", "email": "eve@example.org", "password": PASSWORD, "password_confirmation": PASSWORD}
    answer = anonymous.post("/api/auth/register/", body)
    assert answer.json()["detail"] == "password_confirmation: Unknown field; did you mean `password2`?"


def test_an_unknown_field_is_ignored_with_lenient_handling(as_alice: LoggedInClient) -> None:
    answer = as_alice.post("/api/patients/", {"name": "X", "odd": 1}, HTTP_PREFER="handling=lenient")
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (201, "handling=lenient")
    answer = as_alice.post("/api/patients/", {"name": "X", "odd": 1}, **STRICT)
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (400, "handling=strict")


@pytest.mark.parametrize("prefer", [{}, STRICT])
def test_an_answer_can_be_sent_back(as_alice: LoggedInClient, alice: User, prefer: dict[str, Any]) -> None:
    patient, doctor = make_patient(alice), make_doctor(alice)
    mapping = as_alice.post("/api/mappings/", {"patient": patient.pk, "doctor": doctor.pk}).json()
    for record, read in (
        (f"/api/patients/{patient.pk}/", f"/api/patients/{patient.pk}/?include=doctors"),
        (f"/api/doctors/{doctor.pk}/", f"/api/mappings/{patient.pk}/"),
        (f"/api/patients/{patient.pk}/", f"/api/doctors/{doctor.pk}/patients/"),
        ("/api/auth/me/", "/api/auth/me/"),
    ):
        body = as_alice.get(read).json()
        body = body[0] if isinstance(body, list) else body
        for method in (as_alice.put, as_alice.patch) if "auth" not in record else (as_alice.patch,):
            answer = method(record, body, **prefer)
            assert answer.status_code == 200, answer.json()
    assert as_alice.patch(f"/api/mappings/{mapping['id']}/", mapping, **prefer).status_code == 200


@pytest.mark.parametrize(
    ("header", "lenient"),
    [
        ("handling=lenient", True),
        ('respond-async, handling="lenient"', True),
        ("Handling = Lenient; x=1", True),
        ("wait=100, , handling=lenient", True),
        ("handling=lenient, handling=strict", True),
        ("handling=strict, handling=lenient", False),
        ("handling=leniently", False),
        ("xhandling=lenient", False),
        ("return=minimal", False),
    ],
)
def test_the_preference_is_parsed_as_in_rfc_7240(as_alice: LoggedInClient, header: str, lenient: bool) -> None:
    answer = as_alice.post("/api/patients/", {"name": "X", "odd": 1}, HTTP_PREFER=header)
    assert answer.status_code == (201 if lenient else 400)


@pytest.mark.parametrize("header", ["", " ", "handling lenient", "handling=", "é", 'handling="lenient', ";"])
def test_an_unreadable_preference_is_a_400(as_alice: LoggedInClient, header: str) -> None:
    answer = as_alice.post("/api/patients/", {"name": "X"}, HTTP_PREFER=header)
    assert answer.status_code == 400
    assert "Prefer" in answer.json()["detail"]
    assert not Patient.objects.exists()


WRITES = [
    (row, method)
    for row in described_rows()
    if row.access != "PAGE"
    for method in row.methods
    if method not in SAFE_METHODS and (method != "DELETE" or row.delete_has_body)
]


@pytest.mark.slow
@pytest.mark.parametrize(("row", "method"), WRITES, ids=lambda value: getattr(value, "route", value))
def test_every_write_refuses_an_unknown_field(
    make_user: Callable[..., User], settings: Settings, row: Row, method: str
) -> None:
    settings.EMAIL_CONFIGURED = True
    cast = Cast.build(make_user)
    caller = {"OPEN": "anonymous", "STAFF": "staff"}.get(row.access, "owner")
    owner = "staff" if caller == "staff" else "alice"
    target = "own" if "<" in row.route else ""
    path = re.sub("<int:[a-z_]+>", str(cast.id_of(row.kind(method), target, owner)) if target else "", row.route)
    body = row.build_body(method, cast, owner) | {"zzodd": 1}
    answer = cast.clients[caller].generic(method, f"/{path}", json.dumps(body), content_type=row.content_type)
    if row.content_type == "application/json":
        assert ("/zzodd", "unknown") in errors(answer)
    else:  # a file, whose records have errors of their own
        [result] = answer.json()["results"]
        assert ("/zzodd", "unknown") in [(error["pointer"], error["code"]) for error in result["errors"]]


def test_logout_ignores_the_refresh_token_that_many_clients_send(as_alice: LoggedInClient) -> None:
    assert as_alice.post("/api/auth/logout/", {"refresh": "x"}).status_code == 204


def test_a_body_of_unknown_keys_gets_a_short_answer(as_alice: LoggedInClient) -> None:
    answer = as_alice.post("/api/patients/", {f"key{number}": 1 for number in range(50_000)})
    assert len(answer.json()["errors"]) == 20
    assert answer.json()["error_count"] == 50_000
    assert len(answer.content) < 5_000


@pytest.mark.parametrize("name", ["John Smith", "é", "a" * 65, "\u202e", "9845012345"])
def test_a_field_whose_name_could_be_data_is_not_repeated(as_alice: LoggedInClient, name: str) -> None:
    answer = as_alice.post("/api/patients/", {"name": "X", name: 1})
    assert errors(answer) == [("", "unknown")]
    assert name not in answer.content.decode()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("field", ["password2", "confirm_password"])
def test_a_repeated_password_must_be_equal(anonymous: APIClient, field: str) -> None:
    body = {"name": "Eve", "email": "eve@example.org", "username": "eve", "password": PASSWORD}
    assert errors(anonymous.post("/api/auth/register/", body | {field: PASSWORD + "x"})) == [(f"/{field}", "invalid")]
    assert anonymous.post("/api/auth/register/", body | {field: PASSWORD}).status_code == 201


def test_unknown_fields_of_assignments_and_merges_are_refused(as_alice: LoggedInClient, alice: User) -> None:
    patient, duplicate = make_patient(alice), make_patient(alice)
    body = {"duplicate": duplicate.pk, "keep": True}
    assert errors(as_alice.post(f"/api/patients/{patient.pk}/merge/", body)) == [("/keep", "unknown")]
    body = {"patient": patient.pk, "doctor": make_doctor(alice).pk}
    assert errors(as_alice.post("/api/mappings/", body | {"rol": "GP"})) == [("/rol", "unknown")]


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
