"""The OpenAPI description is valid, complete and clean for generated clients."""

import builtins
import collections.abc
import json
import keyword
import re
import typing
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from rest_framework.exceptions import ParseError
from rest_framework.test import APIClient

from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.api.preferences import PATTERN, read_preferences
from healthcare.api.schema_view import description
from healthcare.tests.live import LiveServer
from healthcare.tests.openapi import by_name, operations, resolved
from patients.tests.factories import make_patient

# What modules and browsers call their own types: a generated class of the same name hides one of them.
PYTHON_NAMES = {*typing.__all__, *collections.abc.__all__, *vars(builtins), *keyword.kwlist}
BROWSER_NAMES = {"Event", "Node", "Text", "Request", "Response", "Record", "Date", "Map", "Error", "File", "Location"}


@pytest.mark.slow
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
    assert {*bad} == {*problem["properties"]} - {"code", "records", "results", "summary"}
    assert {*absent} == {*problem["required"]} == {*bad} - {"errors", "error_count"}
    error = resolved(problem["properties"]["errors"]["items"])
    assert {*bad["errors"][0]} == {*error["properties"]} == {*error["required"]}


OPTIONAL: dict[str, set[str]] = {
    "Problem": {"errors", "error_count", "code", "records", "results", "summary"},
    "Patient": {"doctors"},
    "LikelyRecord": {"id", "line"},  # one of the two
}


def test_every_field_of_an_answer_is_required():
    schemas = description()["components"]["schemas"]
    answers = {name: s for name, s in schemas.items() if s["type"] == "object" and not name.endswith("Request")}
    assert {"Patient", "Doctor", "Assignment", "PatientDoctor", "User", "LoginSession", "TokenPair"} <= answers.keys()
    for name, schema in answers.items():
        optional = OPTIONAL.get(name, set())
        assert {*schema["properties"]} - {*schema.get("required", ())} == optional, name


def test_no_answer_has_a_password():
    for name, schema in description()["components"]["schemas"].items():
        assert name.endswith("Request") or not any("password" in field for field in schema.get("properties", {})), name


def test_the_patient_of_the_contract_is_the_example():
    content = by_name()["patients_create"]["requestBody"]["content"]["application/json"]
    assert content["examples"]["Request"]["value"] == {
        "name": "John Smith", "age": 34, "gender": "M", "address": "Bengaluru",
    }  # fmt: skip


@pytest.mark.slow
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


def test_no_schema_has_the_name_of_a_type_of_a_language():
    assert description()["components"]["schemas"].keys() & (PYTHON_NAMES | BROWSER_NAMES) == set()


def test_no_schema_has_a_list_or_an_object_of_its_own_name():
    """A generated client in Python names the object that it reads after its class: mypy refuses one name of two types.
    It does not see the types of texts and numbers."""
    for name, schema in description()["components"]["schemas"].items():
        own = schema.get("properties", {}).get(re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(), {"type": "string"})
        assert own["type"] in {"string", "integer"}, name


def test_every_schema_is_used():
    text = json.dumps(description(), default=str)
    unused = [name for name in description()["components"]["schemas"] if f'"#/components/schemas/{name}"' not in text]
    assert unused == []


def test_every_operation_has_a_summary_and_a_tag_that_the_description_defines():
    tags = {tag["name"] for tag in description()["tags"]}
    for name, operation in by_name().items():
        assert operation["summary"], name
        assert {*operation["tags"]} <= tags, name


def test_it_names_the_server_a_license_and_a_contact():
    assert [server["url"] for server in description()["servers"]] == ["/"]
    assert description()["info"]["license"] == {"name": "MIT", "identifier": "MIT"}
    assert description()["info"]["contact"]["name"]


def test_what_a_client_may_leave_out_has_no_default():
    """Generators make a client send it: a required property of a body, a parameter that excludes another one."""
    for method, path, operation in operations():
        for parameter in operation.get("parameters", []):
            assert "default" not in parameter["schema"], (method, path, parameter["name"])
    for name, schema in description()["components"]["schemas"].items():
        assert not any("default" in described for described in schema.get("properties", {}).values()), name
    request = description()["components"]["schemas"]["AssignmentRequest"]
    assert request["properties"]["is_primary"] == {"type": "boolean", "description": "Default: `false`."}
    assert {*request["required"]} == {"patient", "doctor"}


@pytest.mark.parametrize("call", ["patients_create", "doctors_create", "mappings_create"])
def test_a_body_takes_null_where_the_description_says_so(as_alice: LoggedInClient, alice: User, call: str):
    path = next(path for _, path, operation in operations() if operation["operationId"] == call)
    schema = resolved(by_name()[call]["requestBody"]["content"]["application/json"]["schema"])
    accepted, described = set(), set()
    for name, property_schema in schema["properties"].items():
        body: dict[str, Any] = {"name": "Ana"}
        if call == "mappings_create":
            body = {"patient": make_patient(alice).pk, "doctor": make_doctor(alice).pk}
        if as_alice.post(path, body | {name: None}).status_code == 201:
            accepted.add(name)
        if "null" in property_schema.get("type", ""):
            described.add(name)
    assert described == accepted


def test_the_pattern_of_prefer_takes_what_can_be_read():
    for header in ("handling=lenient", "handling=strict,respond-async"):
        assert re.search(PATTERN, header), header
        assert read_preferences({"HTTP_PREFER": header}), header
    for header in ("", ",", "=a", "a b", "größer", 'a="b'):
        assert not re.search(PATTERN, header), header
        with pytest.raises(ParseError):
            read_preferences({"HTTP_PREFER": header})
