"""POST /api/auth/logout/, and which Authorization headers are a login."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from conftest import LoggedInClient

LOGOUT = "/api/auth/logout/"


def test_a_logout_ends_this_session_at_once(as_alice: LoggedInClient):
    answer = as_alice.post(LOGOUT)
    assert (answer.status_code, answer.content) == (204, b"")
    assert as_alice.get("/api/auth/me/").status_code == 401
    assert as_alice.post(LOGOUT).status_code == 401
    assert as_alice.post("/api/auth/refresh/", {"refresh": as_alice.tokens["refresh"]}).status_code == 401


def test_a_logout_ends_no_other_session(as_alice: LoggedInClient, alice: User, as_bob: LoggedInClient):
    other = LoggedInClient(alice)
    as_alice.post(LOGOUT)
    assert [client.get("/api/auth/me/").status_code for client in (other, as_bob)] == [200, 200]


def test_a_logout_needs_a_token(anonymous: APIClient):
    answer = anonymous.post(LOGOUT)
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_read_in_any_case(as_alice: LoggedInClient, scheme: str):
    as_alice.credentials(HTTP_AUTHORIZATION=f"{scheme} {as_alice.tokens['access']}")
    assert as_alice.get("/api/auth/me/").status_code == 200


@pytest.mark.parametrize(
    "header", ["{}", "Bearer", "Bearer ", "Basic {}", "Token {}", "Bearer {} x", "Bearer x{}", "Bearer {}x"]
)
def test_anything_but_one_good_bearer_token_is_no_login(as_alice: LoggedInClient, header: str):
    as_alice.credentials(HTTP_AUTHORIZATION=header.format(as_alice.tokens["access"]))
    answer: Any = as_alice.get("/api/auth/me/")
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")
