"""Requests with a personal access token."""

from typing import Any

from rest_framework.test import APIClient

from accounts.personal_tokens.rules import NewToken
from accounts.tests.answers import without_request_id

PATIENTS, SEARCH, ME, PASSWORD_PATH = "/api/patients/", "/api/patients/search/", "/api/auth/me/", "/api/auth/password/"
JANE = {"name": "Jane", "age": 3, "gender": "F"}


def using(text: str, scheme: str = "Bearer") -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"{scheme} {text}")
    return client


def known(token: NewToken) -> APIClient:
    """A client with a token that this process knows."""
    client = using(token.text)
    assert client.get(ME).status_code == 200
    return client


def served_by(answer: Any) -> str:
    return getattr(answer.wsgi_request, "served_by", "standard")


def code_of(answer: Any) -> str | None:
    code: str | None = answer.json().get("code")
    return code


def body_of(answer: Any) -> Any:
    """The JSON of the answer, without the id of the request."""
    return answer.json() if answer.status_code < 400 else without_request_id(answer)


def ids(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.content
    return [one["id"] for one in answer.json()]
