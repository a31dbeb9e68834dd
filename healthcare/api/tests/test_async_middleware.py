"""A middleware of a third party that is asynchronous may stand at any place among the project's."""

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings as project
from django.http import HttpRequest
from django.test import Client
from django.utils.decorators import async_only_middleware

from conftest import LoggedInClient
from patients.tests.factories import make_patient

VARYING = {"X-Request-Id"}
SEEN = "X-Seen-By"


@async_only_middleware
def mark_answers(get_response: Callable[[HttpRequest], Any]) -> Any:
    async def middleware(request: HttpRequest) -> Any:
        response = await get_response(request)
        response[SEEN] = "async"
        return response

    return middleware


def answers(client: Client, token: str) -> list[tuple[int, dict[str, str], bytes]]:
    """Those of the API, by the fast path and by standard DRF, and of pages."""
    calls: list[tuple[str, dict[str, str]]] = [
        ("/api/patients/", {"Authorization": token}),
        ("/api/patients/", {"Authorization": token, "If-None-Match": "*"}),
        ("/api/patients/", {"Authorization": token, "Origin": "https://app.example.org"}),
        ("/api/patients/", {}),
        ("/api/doctors/", {}),
        ("/api/", {}),
        ("/healthz", {}),
        ("/docs", {}),
    ]
    found = []
    for path, headers in calls:
        response = client.get(path, headers=headers)
        kept = {name: value for name, value in response.items() if name not in VARYING | {SEEN}}
        request_id = response["X-Request-Id"].encode()
        body = b"".join(response) if response.streaming else response.content
        found.append((response.status_code, kept, body.replace(request_id, b"")))
    return found


@pytest.mark.parametrize("place", range(len(project.MIDDLEWARE) + 1))
@pytest.mark.django_db(transaction=True)
def test_it_changes_no_answer(as_alice: LoggedInClient, alice: Any, settings: Any, place: int) -> None:
    make_patient(alice)
    token = f"Bearer {as_alice.tokens['access']}"
    expected = answers(Client(), token)
    settings.MIDDLEWARE = [*settings.MIDDLEWARE]
    settings.MIDDLEWARE.insert(place, f"{__name__}.mark_answers")
    client = Client()
    assert answers(client, token) == expected
    assert client.get("/api/doctors/")[SEEN] == "async"
