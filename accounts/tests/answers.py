"""Helpers that read responses."""

from typing import Any

from rest_framework.response import Response

WRONG_LOGIN = {
    "type": "about:blank",
    "title": "Unauthorized",
    "status": 401,
    "detail": "The username or the password is wrong.",
}


def without_request_id(answer: Any) -> dict[str, Any]:
    """The JSON body but for the one member that differs from request to request."""
    body: dict[str, Any] = answer.json()
    assert body.pop("request_id")
    return body


def refusals(answer: Response) -> set[tuple[str, str]]:
    """Where the errors of a 400 point to, and their codes."""
    assert answer.status_code == 400, answer.content
    return {(error["pointer"], error["code"]) for error in answer.json()["errors"]}  # type: ignore[attr-defined]
