"""GET and PATCH /api/auth/me/"""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.models import User
from accounts.tests.answers import refusals
from conftest import LoggedInClient

ME = "/api/auth/me/"


def test_alice_reads_her_account(as_alice: LoggedInClient, alice: User):
    answer = as_alice.get(ME)
    expected = {"id": alice.pk, "name": "Alice", "email": "alice@example.org", "username": "alice"}
    assert (answer.status_code, answer.json()) == (200, expected)


@pytest.mark.parametrize("method", ["get", "patch"])
def test_the_account_needs_a_token(anonymous: APIClient, method: str):
    assert getattr(anonymous, method)(ME, {}).status_code == 401


def test_alice_changes_her_name_and_email(as_alice: LoggedInClient, alice: User):
    answer = as_alice.patch(ME, {"name": "Alice Cooper", "email": "cooper@example.org"})
    expected = {"id": alice.pk, "name": "Alice Cooper", "email": "cooper@example.org", "username": "alice"}
    assert (answer.status_code, answer.json()) == (200, expected)
    assert as_alice.get(ME).json() == expected


def test_a_username_that_is_the_email_follows_it(as_alice: LoggedInClient, alice: User):
    User.objects.filter(pk=alice.pk).update(username="alice@example.org")
    assert as_alice.patch(ME, {"email": "cooper@example.org"}).json()["username"] == "cooper@example.org"
    assert as_alice.get(ME).json()["username"] == "cooper@example.org"
    assert as_alice.patch(ME, {"name": "Alice Cooper"}).json()["username"] == "cooper@example.org"


def test_nothing_else_can_be_changed(as_alice: LoggedInClient, alice: User):
    before = User.objects.values().get(pk=alice.pk)
    sent = {"id": 1, "username": "root", "is_staff": True, "is_superuser": True, "is_active": False, "password": "x"}
    assert as_alice.patch(ME, sent).status_code == 200
    assert User.objects.values().get(pk=alice.pk) == before


def test_an_empty_change_changes_nothing(as_alice: LoggedInClient):
    before = as_alice.get(ME).json()
    assert as_alice.patch(ME, {}).json() == before


@pytest.mark.parametrize("email", ["bob@example.org", "BOB@Example.ORG"])
def test_bobs_email_is_taken(as_alice: LoggedInClient, bob: User, email: str):
    assert refusals(as_alice.patch(ME, {"email": email})) == {("/email", "unique")}
    assert as_alice.get(ME).json()["email"] == "alice@example.org"


def test_bobs_email_is_taken_also_where_the_username_would_follow(as_alice: LoggedInClient, alice: User, bob: User):
    User.objects.filter(pk=alice.pk).update(username="alice@example.org")
    User.objects.filter(pk=bob.pk).update(username="bob@example.org")
    assert refusals(as_alice.patch(ME, {"email": "Bob@example.org"})) == {("/email", "unique")}


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({"name": ""}, ("/name", "blank")),
        ({"name": None}, ("/name", "null")),
        ({"name": "x" * 201}, ("/name", "max_length")),
        ({"email": ""}, ("/email", "blank")),
        ({"email": "alice"}, ("/email", "invalid")),
        ({"email": None}, ("/email", "null")),
    ],
)
def test_a_bad_value_is_refused(as_alice: LoggedInClient, body: dict[str, Any], refused: tuple[str, str]):
    assert refusals(as_alice.patch(ME, body)) == {refused}


def test_an_authenticated_request_has_these_queries(as_alice: LoggedInClient):
    named = ["SAVEPOINT of the request", "the session and its user", "RELEASE SAVEPOINT"]
    with CaptureQueriesContext(connection) as queries:
        as_alice.get(ME)
    assert len(queries) == len(named), queries.captured_queries
