"""GET /api/auth/sessions/ and DELETE /api/auth/sessions/<id>/"""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.limits import attempts_key
from accounts.models import Attempts, LoginSession, User
from accounts.tests.answers import refusals, without_request_id
from conftest import PASSWORD, LoggedInClient

pytestmark = pytest.mark.django_db(transaction=True)

SESSIONS = "/api/auth/sessions/"


def listed(client: LoggedInClient, query: str = "") -> list[int]:
    return [session["id"] for session in client.get(SESSIONS + query).json()]


def test_a_session_names_its_device_and_address(as_alice: LoggedInClient):
    session = as_alice.login_session
    [answered] = as_alice.get(SESSIONS).json()
    times = {name: answered.pop(name) for name in ("created_at", "last_used_at", "expires_at")}
    assert answered == {
        "id": session.pk, "kind": "session", "current": True, "user_agent": "tests", "address": "127.0.0.1",
    }  # fmt: skip
    assert times["created_at"] <= times["expires_at"]
    assert times["last_used_at"] == session.last_used_at.isoformat().replace("+00:00", "Z")


def test_own_live_sessions_are_listed_newest_first(as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User):
    others = [LoggedInClient(alice).login_session for _ in range(4)]
    LoginSession.objects.filter(pk=others[0].pk).revoke()
    LoginSession.objects.filter(pk=others[1].pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert listed(as_alice) == [others[3].pk, others[2].pk, as_alice.login_session.pk]
    assert [session["current"] for session in as_alice.get(SESSIONS).json()] == [False, False, True]
    assert listed(as_bob) == [as_bob.login_session.pk]


def test_sessions_are_paged(as_alice: LoggedInClient, alice: User):
    newest = LoggedInClient(alice).login_session
    answer = as_alice.get(f"{SESSIONS}?limit=1&count=true")
    assert [session["id"] for session in answer.json()] == [newest.pk]
    assert answer["X-Total-Count"] == "2"
    following = answer["Link"].partition("<")[2].partition(">")[0]
    assert [session["id"] for session in as_alice.get(following).json()] == [as_alice.login_session.pk]


def test_deleting_a_session_logs_that_device_out_at_once(as_alice: LoggedInClient, alice: User):
    other = LoggedInClient(alice)
    path = f"{SESSIONS}{other.login_session.pk}/"
    assert as_alice.delete(path, {"current_password": PASSWORD}).status_code == 204
    assert other.get("/api/auth/me/").status_code == 401
    assert listed(as_alice) == [as_alice.login_session.pk]
    assert as_alice.delete(path, {"current_password": PASSWORD}).status_code == 404


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (None, "required"),
        ({}, "required"),
        ({"current_password": "WrongPass123"}, "invalid"),
        ({"current_password": ""}, "blank"),
        ({"current_password": 12345678}, "invalid"),
    ],
)
def test_ending_another_session_needs_the_current_password(as_alice: LoggedInClient, alice: User, body: Any, code: str):
    other = LoggedInClient(alice)
    answer = as_alice.delete(f"{SESSIONS}{other.login_session.pk}/", body)
    assert refusals(answer) == {("/current_password", code)}
    assert other.get("/api/auth/me/").status_code == 200


def test_wrong_current_passwords_have_to_wait(as_alice: LoggedInClient, alice: User):
    path = f"{SESSIONS}{LoggedInClient(alice).login_session.pk}/"
    key = attempts_key("session", str(as_alice.login_session.pk))
    Attempts.objects.create(key=key, count=30, until=timezone.now())
    assert as_alice.delete(path, {"current_password": "WrongPass123"}).status_code == 400
    refused = as_alice.delete(path, {"current_password": PASSWORD})
    assert (refused.status_code, int(refused["Retry-After"]) > 600) == (429, True)


@pytest.mark.parametrize("body", [None, {}, {"current_password": PASSWORD}, {"current_password": "WrongPass123"}])
def test_deleting_the_own_session_is_a_logout_and_needs_no_password(as_alice: LoggedInClient, body: Any):
    assert as_alice.delete(f"{SESSIONS}{as_alice.login_session.pk}/", body).status_code == 204
    assert as_alice.get("/api/auth/me/").status_code == 401


def test_an_unknown_field_ends_no_session(as_alice: LoggedInClient):
    answer = as_alice.delete(f"{SESSIONS}{as_alice.login_session.pk}/", {"password": PASSWORD})
    assert refusals(answer) == {("/password", "unknown")}
    assert as_alice.get("/api/auth/me/").status_code == 200


def test_bobs_session_reads_like_one_that_does_not_exist(as_alice: LoggedInClient, as_bob: LoggedInClient):
    for body in (None, {"current_password": PASSWORD}, {"current_password": "WrongPass123"}):
        check_bobs_session(as_alice, as_bob, body)


def check_bobs_session(as_alice: LoggedInClient, as_bob: LoggedInClient, body: Any) -> None:
    of_bob = as_alice.delete(f"{SESSIONS}{as_bob.login_session.pk}/", body)
    missing = as_alice.delete(f"{SESSIONS}{10**12}/", body)
    assert of_bob.status_code == missing.status_code == 404
    assert without_request_id(of_bob) == without_request_id(missing)
    assert as_bob.get("/api/auth/me/").status_code == 200


def test_sessions_need_a_token(anonymous: APIClient, as_alice: LoggedInClient):
    assert anonymous.get(SESSIONS).status_code == 401
    assert anonymous.delete(f"{SESSIONS}{as_alice.login_session.pk}/").status_code == 401


def test_the_list_has_these_queries_however_long(as_alice: LoggedInClient, alice: User):
    named = ["BEGIN", "the session and its user", "the page", "COMMIT"]
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            as_alice.get(SESSIONS)
        assert len(queries) == len(named), queries.captured_queries
        for _ in range(10):
            LoginSession.objects.start(alice, "tests", None)
