"""POST /api/auth/logout/, and which Authorization headers are a login."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import LoginSession, User
from conftest import LoggedInClient

pytestmark = pytest.mark.django_db(transaction=True)

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


def logout(client: LoggedInClient, key: str = "4711") -> Any:
    return client.post(LOGOUT, headers={"Idempotency-Key": key})


def test_a_repeated_logout_with_its_key_gets_its_answer_again(as_alice: LoggedInClient):
    first, second, third = (logout(as_alice) for _ in range(3))
    assert [answer.status_code for answer in (first, second, third)] == [204] * 3
    assert [answer.get("Idempotency-Replayed") for answer in (first, second, third)] == [None, "true", "true"]
    assert second.content == b""
    assert as_alice.get("/api/auth/me/").status_code == 401


def test_a_repeated_logout_needs_its_own_key_and_token(
    as_alice: LoggedInClient, alice: User, as_bob: LoggedInClient, anonymous: APIClient
):
    logout(as_alice)
    assert logout(as_alice, "another").status_code == 401
    assert as_alice.post(LOGOUT).status_code == 401
    assert logout(anonymous).status_code == 401  # type: ignore[arg-type]
    as_alice.credentials(HTTP_AUTHORIZATION=f"Bearer {as_alice.tokens['access']}x")
    assert logout(as_alice).status_code == 401
    as_alice.credentials(HTTP_AUTHORIZATION=f"Bearer {as_alice.tokens['refresh']}")
    assert logout(as_alice).status_code == 401


def test_the_logout_of_another_session_is_another_request(as_alice: LoggedInClient, alice: User, as_bob: Any):
    other = LoggedInClient(alice)
    answers = [logout(client) for client in (as_alice, other, as_bob)]
    assert [answer.status_code for answer in answers] == [204, 422, 204]
    assert [client.get("/api/auth/me/").status_code for client in (as_alice, other, as_bob)] == [401, 200, 401]


def test_a_logout_whose_session_ended_otherwise_is_refused(as_alice: LoggedInClient):
    LoginSession.objects.revoke()
    assert [logout(as_alice).status_code for _ in range(2)] == [401, 401]


def test_a_malformed_key_is_a_bad_request_before_and_after_the_logout(as_alice: LoggedInClient):
    assert logout(as_alice, "not a key").status_code == 400
    logout(as_alice)
    assert logout(as_alice, "not a key").status_code == 400


def test_other_keyed_calls_of_an_ended_session_are_refused(as_alice: LoggedInClient):
    sent: Any = {"data": {"name": "Jane", "age": 3, "gender": "F"}, "headers": {"Idempotency-Key": "4712"}}
    assert as_alice.post("/api/patients/", **sent).status_code == 201
    logout(as_alice)
    assert as_alice.post("/api/patients/", **sent).status_code == 401


def test_a_keyed_logout_with_a_refresh_token_is_repeated_as_well(as_alice: LoggedInClient):
    sent: Any = {"data": {"refresh": as_alice.tokens["refresh"]}, "headers": {"Idempotency-Key": "4713"}}
    answers = [as_alice.post(LOGOUT, **sent) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [204, 204]
    assert [answer.get("Idempotency-Replayed") for answer in answers] == [None, "true"]
    assert logout(as_alice, "4713").status_code == 401  # another request with that key
