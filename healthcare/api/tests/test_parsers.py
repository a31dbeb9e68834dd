"""Strict JSON (RFC 8259): bodies just within the limits are accepted, those just beyond are refused."""

import json
from typing import Any

import pytest

from conftest import LoggedInClient
from patients.models import Patient


def post(client: LoggedInClient, body: bytes | str, content_type: str = "application/json", **headers: str) -> Any:
    data = body.encode() if isinstance(body, str) else body
    return client.generic("POST", "/api/patients/", data, content_type=content_type, headers=headers)  # type: ignore[arg-type]


def nested(levels: int) -> str:
    """An object with this many levels of nesting, itself included."""
    return '{"name": "X", "deep": ' + "[" * (levels - 1) + "]" * (levels - 1) + "}"


@pytest.mark.parametrize(
    "body",
    [
        nested(32),
        ' \t\r\n{"name" : "X"}\n',
        '{"name": "X", "age": 34}',
        '{"name": "X", "unknown": 1.7976931348623157e308}',
        '{"name": "X", "unknown": -0.0}',
        '{"name": "X", "unknown": 1e-999}',
        '{"name": "\\ud83d\\ude00"}',
        '{"name": "\\u0058"}',
        '{"name": "X", "a": {"x": 1}, "b": {"x": 1}}',
        '{"name": "X", "Name": "Y"}',
    ],
)
def test_a_body_within_the_limits_is_accepted(as_alice: LoggedInClient, body: str) -> None:
    answer = post(as_alice, body, prefer="handling=lenient")
    assert (answer.status_code, answer.json()["name"]) == (201, json.loads(body)["name"])


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (nested(33), "The body is nested more than 32 levels deep."),
        ("[" * 100_000, "The body is nested more than 32 levels deep."),
        ('{"name": "X", "name": "Y"}', "An object contains the same key twice; send each key once."),
        ('{"a": {"b": 1, "\\u0062": 2}}', "An object contains the same key twice; send each key once."),
        ('{"a": NaN}', "NaN and Infinity are not JSON; send a number or null."),
        ('{"a": -Infinity}', "NaN and Infinity are not JSON; send a number or null."),
        ('{"a": 1e309}', "A number is too large; send a smaller one."),
        ('{"a": [{"b": "\\u0000"}]}', "A string contains a NUL character or a lone surrogate; remove it."),
        ('{"\\ud800": 1}', "A string contains a NUL character or a lone surrogate; remove it."),
        (b'{"a": "\xff"}', "The body is not UTF-8."),
        ("[]", "The body is not a JSON object."),
        ("null", "The body is not a JSON object."),
        ("{", "The body is not valid JSON."),
        ('{"a": 01}', "The body is not valid JSON."),
        ('{"a": .5}', "The body is not valid JSON."),
        ('{"a": ' + "9" * 5000 + "}", "The body is not valid JSON."),
        ("\ufeff{}", "The body is not valid JSON."),
    ],
)
def test_a_body_beyond_the_limits_is_refused_with_a_fixed_text(
    as_alice: LoggedInClient, body: str | bytes, detail: str
) -> None:
    answer = post(as_alice, body)
    assert (answer.status_code, answer.json()["detail"]) == (400, detail)
    assert "errors" not in answer.json()
    assert not Patient.objects.exists()


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON", 'application/json;charset="UTF-8"']
)
def test_the_type_may_have_parameters_and_capitals(as_alice: LoggedInClient, kind: str) -> None:
    assert post(as_alice, '{"name": "X"}', kind).status_code == 201


@pytest.mark.parametrize("kind", ["text/json", "application/problem+json", "application/*", "*/*", "application/xml"])
def test_any_other_type_is_415(as_alice: LoggedInClient, kind: str) -> None:
    answer = post(as_alice, '{"name": "X"}', kind)
    assert (answer.status_code, answer.json()["detail"]) == (415, "Send the body as application/json.")
    assert not Patient.objects.exists()


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/*;q=0.1", "nonsense", ""])
def test_the_answer_is_json_whatever_accept_asks_for(as_alice: LoggedInClient, accept: str) -> None:
    answer = as_alice.get("/api/patients/", HTTP_ACCEPT=accept)
    assert (answer.status_code, answer.headers["Content-Type"], answer.json()) == (200, "application/json", [])
