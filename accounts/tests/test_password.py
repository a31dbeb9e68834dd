"""POST /api/auth/password/"""

from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from accounts.tests.answers import refusals
from conftest import PASSWORD, LoggedInClient

pytestmark = pytest.mark.django_db(transaction=True)

CHANGE = "/api/auth/password/"
NEW = " Kf7-twelve "


def test_a_new_password_replaces_the_old_one(as_alice: LoggedInClient, anonymous: APIClient):
    answer = as_alice.post(CHANGE, {"current_password": PASSWORD, "new_password": NEW})
    assert (answer.status_code, answer.content) == (204, b"")
    tried = [PASSWORD, NEW.strip(), NEW]
    answers = [anonymous.post("/api/auth/login/", {"username": "alice", "password": password}) for password in tried]
    assert [answer.status_code for answer in answers] == [401, 401, 200]


def test_a_new_password_ends_the_other_sessions_and_keeps_this_one(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, anonymous: APIClient
):
    other = LoggedInClient(alice)
    as_alice.post(CHANGE, {"current_password": PASSWORD, "new_password": NEW})
    assert [client.get("/api/auth/me/").status_code for client in (as_alice, other, as_bob)] == [200, 401, 200]
    refreshed = [
        anonymous.post("/api/auth/refresh/", {"refresh": client.tokens["refresh"]}).status_code
        for client in (as_alice, other, as_bob)
    ]
    assert refreshed == [200, 401, 200]


@pytest.mark.parametrize("current", ["WrongPass123", PASSWORD.lower(), f" {PASSWORD}"])
def test_a_wrong_current_password_changes_nothing(as_alice: LoggedInClient, alice: User, current: str):
    other = LoggedInClient(alice)
    answer = as_alice.post(CHANGE, {"current_password": current, "new_password": NEW})
    assert refusals(answer) == {("/current_password", "invalid")}
    assert User.objects.get(pk=alice.pk).password == alice.password
    assert other.get("/api/auth/me/").status_code == 200


@pytest.mark.parametrize(
    ("new", "codes"),
    [
        ("Kf7-ten", {"password_too_short"}),
        ("password123", {"password_too_common"}),
        ("192837465012", {"password_entirely_numeric"}),
        ("alice@example.org", {"password_too_similar"}),
        ("", {"blank"}),
        ("Kf7-" + "x" * 253, {"max_length"}),
    ],
)
def test_a_weak_new_password_changes_nothing(as_alice: LoggedInClient, alice: User, new: str, codes: set[str]):
    other = LoggedInClient(alice)
    answer = as_alice.post(CHANGE, {"current_password": PASSWORD, "new_password": new})
    assert refusals(answer) == {("/new_password", code) for code in codes}
    assert User.objects.get(pk=alice.pk).password == alice.password
    assert other.get("/api/auth/me/").status_code == 200


def test_both_passwords_are_required(as_alice: LoggedInClient):
    assert refusals(as_alice.post(CHANGE, {})) == {("/current_password", "required"), ("/new_password", "required")}


def test_a_password_change_needs_a_token(anonymous: APIClient):
    body: dict[str, Any] = {"current_password": PASSWORD, "new_password": NEW}
    assert anonymous.post(CHANGE, body).status_code == 401
