"""Errors are problems with pointers, and contain neither sent values nor exception texts."""

from typing import Any

import pytest
from pytest_django import Settings
from rest_framework.exceptions import ErrorDetail
from rest_framework.test import APIClient

from conftest import LoggedInClient
from healthcare.api.errors import flatten
from healthcare.api.tests import views_that_fail
from healthcare.api.tests.views_that_fail import SECRET
from healthcare.tests.contract_matrix import protocol_faults

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(settings: Settings) -> APIClient:
    settings.ROOT_URLCONF = views_that_fail.__name__
    return APIClient(raise_request_exception=False)


@pytest.mark.parametrize(
    ("name", "in_the_api", "outside"),
    [
        ("check", 400, 409),
        ("overflow", 400, 500),
        ("sql", 500, 500),
        ("defect", 500, 500),
        ("missing", 404, 404),
        ("denied", 403, 403),
        ("suspicious", 400, 400),
        ("protected", 409, 409),
        ("big", 413, 400),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_every_failure_is_a_problem_without_internal_details(
    client: APIClient, settings: Settings, name: str, in_the_api: int, outside: int, debug: bool
) -> None:
    settings.DEBUG = debug
    for path, status in ((f"/api/fails/{name}/", in_the_api), (f"/plain/{name}/", outside)):
        answer = client.get(path)
        assert answer.status_code == status
        found = protocol_faults(answer.status_code, answer.headers, answer.content)
        assert found == ([f"status {status}"] if status >= 500 else [])
        for leaked in (SECRET, "SELECT", "nowhere", "patient_name_given", "Error", "Traceback", "smallint"):
            assert leaked not in answer.content.decode().replace("Internal Server Error", "")


def test_a_violated_check_constraint_is_a_400_with_a_safe_text(client: APIClient) -> None:
    (error,) = client.get("/api/fails/check/").json()["errors"]
    assert (error["pointer"], error["code"]) == ("/name", "invalid")


def test_pointers_reach_nested_fields_and_are_escaped(client: APIClient) -> None:
    body = client.get("/api/fails/deep/").json()
    assert (body["detail"], body["error_count"]) == ("a/b.c~d.1.e: First.", 3)
    assert body["errors"] == [
        {"pointer": "/a~1b/c~0d/1/e", "code": "invalid", "detail": "First."},
        {"pointer": "/a~1b/c~0d/1/e", "code": "invalid", "detail": "Second."},
        {"pointer": "", "code": "invalid", "detail": "Whole."},
    ]


@pytest.mark.parametrize(
    ("detail", "flat"),
    [
        (["x"], [("", "x")]),
        ({"a": ["x", "y"]}, [("/a", "x"), ("/a", "y")]),
        ({"a": {0: ["x"], 2: ["y"]}}, [("/a/0", "x"), ("/a/2", "y")]),
        ([{}, {"a": ["x"]}], [("/1/a", "x")]),
        ({"a": {"non_field_errors": ["x"]}}, [("/a", "x")]),
        ({"~/": ["x"]}, [("/~0~1", "x")]),
        ({"": ["x"]}, [("/", "x")]),
        ({}, []),
    ],
)
def test_flattening(detail: Any, flat: list[tuple[str, str]]) -> None:
    assert [(error["pointer"], error["detail"]) for error in flatten(detail)] == flat


@pytest.mark.parametrize("code", ["invalid_choice", "does_not_exist", "incorrect_type", "not_a_list"])
def test_drf_texts_that_repeat_the_value_are_replaced(code: str) -> None:
    (error,) = flatten({"a": [ErrorDetail(f'"{SECRET}" is wrong.', code)]})
    assert error["code"] == code
    assert SECRET not in error["detail"]


def test_a_text_of_ours_is_kept() -> None:
    (error,) = flatten({"a": [ErrorDetail("Write read or write.", "invalid_choice")]})
    assert error["detail"] == "Write read or write."


def test_every_invalid_field_is_reported(as_alice: LoggedInClient) -> None:
    answer = as_alice.post("/api/patients/", {"age": -1, "gender": SECRET})
    assert sorted(error["pointer"] for error in answer.json()["errors"]) == ["/age", "/gender", "/name"]
    assert answer.json()["detail"] == "name: This field is required."
    assert answer.json()["error_count"] == 3
    assert SECRET not in answer.content.decode()


@pytest.mark.parametrize("path", ["/", "/nothing/here/", "/api/nothing/", "/static/nothing.css", "/favicon.ico"])
@pytest.mark.parametrize("debug", [False, True])
def test_an_unknown_path_is_a_problem_with_debug_on_too(path: str, debug: bool, settings: Settings) -> None:
    settings.DEBUG = debug
    answer = APIClient().delete(path)
    assert answer.status_code in {404, 405}
    assert protocol_faults(answer.status_code, answer.headers, answer.content) == []
