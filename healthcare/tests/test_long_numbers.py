"""Numbers of thousands of digits, of which Python converts 4,300 at most: in every parameter, path and body field."""

import itertools
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import User
from conftest import LoggedInClient
from healthcare.api.schema_view import description
from healthcare.tests.contract_matrix import all_routes, protocol_faults, read_whole

LONG = ["9" * 5_000, "9" * 4_300, "0" * 5_000 + "1", "-" + "9" * 5_000, str(2**63)]
OPERATIONS = [
    (path, parameter["name"])
    for path, operations in description()["paths"].items()
    for parameter in operations.get("get", {}).get("parameters", [])
    if parameter["in"] == "query"
]


def check(answer: Any) -> None:
    assert answer.status_code < 500
    kind = "fhir" if answer.request["PATH_INFO"].startswith("/fhir/") else "problem"
    errors = f"application/{kind}+json"
    assert protocol_faults(answer.status_code, answer.headers, answer.content, errors=errors) == []


# Some views are no single transaction, and an error ends that of a test.
@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_no_parameter_of_a_get_fails_on_a_long_number(as_alice: LoggedInClient) -> None:
    values = [*LONG, f"{LONG[0]},{LONG[0]}", f"x|{LONG[0]}", f"2000-01-01T00:00:00.{LONG[0]}Z"]
    failed = []
    for (path, parameter), value in itertools.product(OPERATIONS, values):
        answer = read_whole(as_alice.get(path.replace("{id}", "1").replace("{patient}", "1"), {parameter: value}))
        if answer.status_code >= 500 or protocol_faults(answer.status_code, answer.headers, answer.content):
            failed.append((path, parameter, value[:3], len(value), answer.status_code))
    assert failed == []
    assert len(OPERATIONS) > 90


@pytest.mark.django_db(transaction=True)
def test_no_path_fails_on_a_long_number(as_alice: LoggedInClient, anonymous: APIClient) -> None:
    for route, number in itertools.product(all_routes(), LONG):
        if "<" not in route:
            continue
        path = "/" + "/".join(number if part.startswith("<") else part for part in route.split("/"))
        for client in (as_alice, anonymous):
            for method in ("get", "put", "patch", "delete", "post"):
                check(getattr(client, method)(path, {}))


@pytest.mark.parametrize("number", LONG, ids=lambda number: f"{number[:3]}-{len(number)}")
@pytest.mark.parametrize("path", ["/api/patients/", "/api/doctors/", "/api/mappings/", "/api/patients/search/"])
def test_no_field_of_a_body_fails_on_a_long_number(as_alice: LoggedInClient, path: str, number: str) -> None:
    schema = description()
    body = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    fields = schema["components"]["schemas"][body["$ref"].rpartition("/")[2]] if "$ref" in body else body
    for field in fields["properties"]:
        check(as_alice.post(path, {"name": "A", field: number}))
        raw = f'{{"name": "A", "{field}": {number}}}'
        check(as_alice.generic("POST", path, raw, content_type="application/json"))
        check(as_alice.post(path, {"name": "A", field: f"2000-01-01T00:00:00.{number}Z"}))


@pytest.mark.parametrize("header", ["Content-Length", "If-Match", "Idempotency-Key", "Prefer", "X-Change-Reason"])
def test_no_header_fails_on_a_long_number(as_alice: LoggedInClient, header: str) -> None:
    for number in LONG:
        extra: Any = {"CONTENT_LENGTH": number} if header == "Content-Length" else {}
        headers = {} if extra else {header: number}
        check(as_alice.generic("POST", "/api/patients/", "{}", "application/json", headers=headers, **extra))


@pytest.mark.slow
@pytest.mark.parametrize("number", LONG, ids=lambda number: f"{number[:3]}-{len(number)}")
def test_no_page_of_the_admin_fails_on_a_long_number(client: Client, staff: User, number: str) -> None:
    client.force_login(staff)
    for model in ("patients/patient", "doctors/doctor", "mappings/mapping", "accounts/user"):
        for page in ("change/", "delete/", "history/", "password/", ""):
            assert client.get(f"/admin/{model}/{number}/{page}").status_code < 500
        for parameter in ("p", "o", "id", "id__exact", "created_by__id__exact", "q", "_to_field", "_popup", "state"):
            assert client.get(f"/admin/{model}/", {parameter: number}).status_code < 500
        assert (
            client.post(f"/admin/{model}/", {"action": "delete_selected", "_selected_action": number}).status_code < 500
        )
    arguments = {"app_label": "mappings", "model_name": "mapping", "field_name": "patient", "term": "a", "page": number}
    assert client.get("/admin/autocomplete/", arguments).status_code < 500
