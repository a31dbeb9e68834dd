"""The OpenAPI description is valid, complete and clean for generated clients."""

import json

import pytest
import yaml
from django.core.management import call_command
from rest_framework.test import APIClient

from healthcare.api.schema_view import description
from healthcare.tests.live import LiveServer
from healthcare.tests.openapi import by_name, resolved


def test_the_description_is_generated_without_a_warning_and_is_valid(capsys: pytest.CaptureFixture[str]):
    call_command("spectacular", "--validate", "--fail-on-warn", "--format", "openapi-json")
    written = json.loads(capsys.readouterr().out)
    assert written["openapi"].startswith("3.1")


def test_an_independent_validator_accepts_the_description():
    validator = pytest.importorskip("openapi_spec_validator", reason="requirements-dev.txt has it")
    described = json.loads(json.dumps(description()))
    assert [error.message for error in validator.OpenAPIV31SpecValidator(described).iter_errors()] == []


def test_the_described_problem_has_the_members_of_an_error(anonymous: APIClient):
    problem = description()["components"]["schemas"]["Problem"]
    bad, absent = anonymous.post("/api/auth/login/", {}).json(), anonymous.get("/api/doctors/1/").json()
    assert {*bad} == {*problem["properties"]}
    assert {*absent} == {*problem["required"]} == {*bad} - {"errors", "error_count"}
    error = resolved(problem["properties"]["errors"]["items"])
    assert {*bad["errors"][0]} == {*error["properties"]} == {*error["required"]}


def test_every_field_of_an_answer_is_required():
    schemas = description()["components"]["schemas"]
    answers = {name: s for name, s in schemas.items() if s["type"] == "object" and not name.endswith("Request")}
    assert {"Patient", "Doctor", "Mapping", "PatientDoctor", "User", "LoginSession", "TokenPair"} <= answers.keys()
    for name, schema in answers.items():
        optional = {"Problem": {"errors", "error_count"}, "Patient": {"doctors"}}.get(name, set())
        assert {*schema["properties"]} - {*schema["required"]} == optional, name


def test_no_answer_has_a_password():
    for name, schema in description()["components"]["schemas"].items():
        assert name.endswith("Request") or not any("password" in field for field in schema.get("properties", {})), name


def test_the_patient_of_the_contract_is_the_example():
    content = by_name()["patients_create"]["requestBody"]["content"]["application/json"]
    assert content["examples"]["Request"]["value"] == {
        "name": "John Smith", "age": 34, "gender": "M", "address": "Bengaluru",
    }  # fmt: skip


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
def test_the_description_is_served_as_json_or_yaml(live: LiveServer, query: str, accept: str, answered: str):
    answer = live.call("GET", f"/api/schema/{query}", Accept=accept)
    assert (answer.status, answered in answer.headers["Content-Type"]) == (200, True)
    read = json.loads(answer.body) if answered == "json" else yaml.safe_load(answer.body)
    assert read["info"]["title"] == "Healthcare API"
    assert answer.body.startswith(b"{") == (answered == "json")


def test_an_unknown_format_is_a_problem(anonymous: APIClient):
    answer = anonymous.get("/api/schema/?format=api")
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
