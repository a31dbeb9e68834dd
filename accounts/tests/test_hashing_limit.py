"""No more passwords are hashed at once than the limit: beyond it a 503, which counts nothing and tells nothing."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.test import Client
from rest_framework.test import APIClient

from accounts import hashing_limit
from accounts.email_links.tokens import PASSWORD_RESET, encode_uid
from accounts.hashing_limit import MOST_AT_ONCE, hashing_slot
from accounts.models import Attempts, User
from conftest import PASSWORD, LoggedInClient
from healthcare.api.exceptions import Busy

pytestmark = pytest.mark.django_db(transaction=True)  # an error rolls the transaction of the view back

LOGIN, REGISTER = "/api/auth/login/", "/api/auth/register/"


@pytest.fixture
def no_slot_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(hashing_limit, "LONGEST_HASHING_WAIT", 0.01)
    for _ in range(MOST_AT_ONCE):
        assert hashing_limit.slots.acquire(timeout=0)
    yield
    for _ in range(MOST_AT_ONCE):
        hashing_limit.slots.release()


def assert_is_busy(answer: object) -> None:
    assert answer.status_code == 503  # type: ignore[attr-defined]
    assert answer["Content-Type"] == "application/problem+json"  # type: ignore[index]
    assert answer["Retry-After"] == "5"  # type: ignore[index]
    assert "logging in" in answer.json()["detail"]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("alice", "no_slot_left")
def test_a_login_beyond_the_limit_is_503_for_known_and_unknown_users_and_counts_nothing(anonymous: APIClient):
    answers = [anonymous.post(LOGIN, {"username": name, "password": PASSWORD}) for name in ("alice", "nobody")]
    for answer in answers:
        assert_is_busy(answer)
    bodies = [answer.json() | {"request_id": ""} for answer in answers]
    assert bodies[0] == bodies[1]
    assert not Attempts.objects.exists()


@pytest.mark.usefixtures("db", "no_slot_left")
def test_a_registration_beyond_the_limit_is_503_and_counts_nothing(anonymous: APIClient):
    account = {"name": "Eve", "username": "eve", "email": "eve@example.org", "password": PASSWORD}
    assert_is_busy(anonymous.post(REGISTER, account))
    assert not Attempts.objects.exists()
    assert not User.objects.exists()


def test_a_changed_password_beyond_the_limit_is_503_and_counts_nothing(
    as_alice: LoggedInClient, request: pytest.FixtureRequest
):
    client = as_alice
    request.getfixturevalue("no_slot_left")
    assert_is_busy(client.post("/api/auth/password/", {"current_password": PASSWORD, "new_password": "An0therPass9"}))
    assert_is_busy(client.patch("/api/auth/me/", {"email": "new@example.org", "current_password": PASSWORD}))
    assert not Attempts.objects.exists()


def test_what_is_confirmed_by_a_password_or_a_link_beyond_the_limit_is_503_and_counts_nothing(
    as_alice: LoggedInClient, alice: User, request: pytest.FixtureRequest, settings: Any
):
    settings.EMAIL_CONFIGURED = True
    client, link = as_alice, {"uid": encode_uid(alice), "token": PASSWORD_RESET.make_token(alice)}
    request.getfixturevalue("no_slot_left")
    assert_is_busy(client.post("/api/auth/password/reset/confirm/", link | {"new_password": "An0therPass9"}))
    assert_is_busy(client.post("/api/auth/email/", {"email": "new@example.org", "current_password": PASSWORD}))
    assert not Attempts.objects.exists()


@pytest.mark.usefixtures("alice", "no_slot_left")
def test_a_login_of_the_admin_beyond_the_limit_is_503_and_counts_nothing():
    assert_is_busy(Client().post("/admin/login/", {"username": "alice", "password": PASSWORD}))
    assert not Attempts.objects.exists()


@pytest.mark.usefixtures("no_slot_left")
def test_a_slot_is_taken_once_by_nested_blocks_and_given_back():
    hashing_limit.slots.release()
    for _ in range(2):
        with hashing_slot(), hashing_slot():
            assert make_password(PASSWORD)
    assert hashing_limit.slots.acquire(timeout=0)
    with pytest.raises(Busy):
        make_password(PASSWORD)
