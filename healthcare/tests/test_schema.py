"""The OpenAPI description is valid, complete and clean for generated clients."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from rest_framework.test import APIClient

from healthcare.api.schema_view import description
from healthcare.tests.live import LiveServer
from healthcare.tests.matrix import ROWS

Operation = dict[str, Any]

OPERATIONS = {
    "auth_register", "auth_login", "auth_refresh", "auth_logout", "auth_me", "auth_me_update", "auth_password",
    "auth_sessions_list", "auth_sessions_destroy",
    "patients_list", "patients_create", "patients_retrieve", "patients_update", "patients_partial_update",
    "patients_destroy", "patients_doctors", "patients_duplicates", "patients_merge", "patients_unmerge",
    "doctors_list", "doctors_create", "doctors_retrieve", "doctors_update", "doctors_partial_update", "doctors_destroy",
    "doctors_patients",
    "mappings_list", "mappings_create", "mappings_doctors", "mappings_partial_update", "mappings_destroy",
}  # fmt: skip
OPEN = {"auth_register", "auth_login", "auth_refresh", "doctors_list", "doctors_retrieve"}


def operations() -> Iterator[tuple[str, str, Operation]]:
    for path, item in description()["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def by_name() -> dict[str, Operation]:
    return {operation["operationId"]: operation for _, _, operation in operations()}


def is_list(name: str) -> bool:
    return name.endswith(("_list", "_doctors", "_patients"))


def resolved(reference: dict[str, str]) -> dict[str, Any]:
    _, components, kind, name = reference["$ref"].split("/")
    found: dict[str, Any] = description()[components][kind][name]
    return found


def test_it_is_written_without_a_warning_and_is_valid(capsys: pytest.CaptureFixture[str]):
    call_command("spectacular", "--validate", "--fail-on-warn", "--format", "openapi-json")
    written = json.loads(capsys.readouterr().out)
    assert written["openapi"].startswith("3.1")


def test_an_independent_validator_accepts_it():
    validator = pytest.importorskip("openapi_spec_validator", reason="requirements-dev.txt has it")
    described = json.loads(json.dumps(description()))
    assert [error.message for error in validator.OpenAPIV31SpecValidator(described).iter_errors()] == []


def test_it_describes_every_call_of_the_contract():
    described = {(method, path) for method, path, _ in operations()}
    contract = {
        (method, "/" + row.route.replace("<int:pk>", "{id}"))
        for row in ROWS
        if row.access != "PAGE"
        for method in row.methods
    }
    assert described == contract


def test_operations_keep_their_names():
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names))
    assert set(names) == OPERATIONS


def test_what_is_open_asks_for_no_token():
    for name, operation in by_name().items():
        assert operation["security"] == ([] if name in OPEN else [{"Bearer": []}]), name
    assert description()["components"]["securitySchemes"]["Bearer"]["scheme"] == "bearer"


def test_bodies_are_json_alone():
    for name, operation in by_name().items():
        assert {*operation.get("requestBody", {}).get("content", {"application/json": {}})} == {"application/json"}, (
            name
        )
        for status, answer in operation["responses"].items():
            expected = set() if status == "204" else {"application/json"}
            if status >= "400":
                expected = {"application/problem+json"}
            assert {*answer.get("content", {})} == expected, (name, status)


def test_every_error_is_the_one_problem():
    for name, operation in by_name().items():
        for status, answer in operation["responses"].items():
            if status >= "400":
                body = answer["content"]["application/problem+json"]
                assert body["schema"] == {"$ref": "#/components/schemas/Problem"}, (name, status)
                assert body["example"]["status"] == int(status)


def test_the_problem_is_what_an_error_answers(anonymous: APIClient):
    problem = description()["components"]["schemas"]["Problem"]
    bad, absent = anonymous.post("/api/auth/login/", {}).json(), anonymous.get("/api/doctors/1/").json()
    assert {*bad} == {*problem["properties"]}
    assert {*absent} == {*problem["required"]} == {*bad} - {"errors"}
    error = resolved(problem["properties"]["errors"]["items"])
    assert {*bad["errors"][0]} == {*error["properties"]} == {*error["required"]}


def test_the_errors_of_an_operation_follow_from_what_it_takes():
    statuses = {name: {s for s in operation["responses"] if s >= "400"} for name, operation in by_name().items()}
    assert statuses["patients_list"] == {"400", "401", "503"}
    assert statuses["patients_update"] == {"400", "401", "404", "410", "411", "413", "415", "503"}
    assert statuses["doctors_destroy"] == {"401", "404", "409", "503"}
    assert statuses["auth_login"] == {"400", "401", "411", "413", "415", "429", "503"}
    assert statuses["auth_register"] == {"400", "411", "413", "415", "429", "503"}


def test_every_answer_names_its_headers():
    for name, operation in by_name().items():
        for status, answer in operation["responses"].items():
            expected = {"X-Request-Id"}
            expected |= {"Link", "X-Total-Count"} if status == "200" and is_list(name) else set()
            expected |= {"Link"} if status == "410" else set()
            expected |= {"Retry-After"} if status in {"429", "503"} else set()
            expected |= {"WWW-Authenticate"} if status == "401" else set()
            assert {*answer["headers"]} == expected, (name, status)
            assert all(resolved(header)["description"] for header in answer["headers"].values())


def test_a_list_is_a_bare_array_with_keyset_parameters():
    paged = {"limit", "cursor", "count"}
    for name, operation in by_name().items():
        schema = operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
        parameters = {p["name"] for p in operation.get("parameters", []) if p["in"] == "query"}
        assert (schema.get("type") == "array") == (is_list(name) or name == "patients_duplicates"), name
        assert (paged <= parameters) == is_list(name), name


def test_an_answer_always_has_every_field():
    schemas = description()["components"]["schemas"]
    answers = {name: s for name, s in schemas.items() if s["type"] == "object" and not name.endswith("Request")}
    assert {"Patient", "Doctor", "Mapping", "PatientDoctor", "User", "LoginSession", "TokenPair"} <= answers.keys()
    for name, schema in answers.items():
        optional = {"Problem": {"errors"}, "Patient": {"doctors"}}.get(name, set())
        assert {*schema["properties"]} - {*schema["required"]} == optional, name


def test_a_password_is_never_in_an_answer():
    for name, schema in description()["components"]["schemas"].items():
        assert name.endswith("Request") or not any("password" in field for field in schema.get("properties", {})), name


def test_the_contracts_patient_is_the_example():
    content = by_name()["patients_create"]["requestBody"]["content"]["application/json"]
    assert content["examples"]["Request"]["value"] == {
        "name": "John Smith", "age": 34, "gender": "M", "address": "Bengaluru",
    }  # fmt: skip


def test_both_ways_to_a_patients_doctors_name_each_other():
    doctors, twin = by_name()["mappings_doctors"], by_name()["patients_doctors"]
    assert "/api/patients/{id}/doctors/" in doctors["description"]
    assert "/api/mappings/{id}/" in twin["description"]
    whose = next(p for p in by_name()["mappings_partial_update"]["parameters"] if p["in"] == "path")
    assert whose["description"] == "The id of an assignment."
    whose = next(parameter for parameter in doctors["parameters"] if parameter["in"] == "path")
    assert whose["description"] == "The id of a patient of yours."


@pytest.mark.parametrize(
    ("query", "accept", "answered"),
    [
        ("", "*/*", "json"),
        ("", "text/html", "json"),
        ("", "application/json", "json"),
        ("", "application/yaml", "yaml"),
        ("?format=yaml", "*/*", "yaml"),
        ("?format=json", "application/yaml", "json"),
    ],
)
def test_it_comes_as_json_or_yaml(live: LiveServer, query: str, accept: str, answered: str):
    answer = live.call("GET", f"/api/schema/{query}", Accept=accept)
    assert (answer.status, answered in answer.headers["Content-Type"]) == (200, True)
    read = json.loads(answer.body) if answered == "json" else yaml.safe_load(answer.body)
    assert read["info"]["title"] == "Healthcare API"
    assert answer.body.startswith(b"{") == (answered == "json")


def test_an_unknown_format_is_a_problem(anonymous: APIClient):
    answer = anonymous.get("/api/schema/?format=api")
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
