"""GET and PATCH /api/auth/me/"""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.limits import attempts_key
from accounts.models import Attempts, User
from accounts.tests.answers import refusals, without_request_id
from conftest import PASSWORD, LoggedInClient

pytestmark = pytest.mark.django_db(transaction=True)

ME = "/api/auth/me/"


def change_email(client: LoggedInClient, email: str) -> Any:
    return client.patch(ME, {"email": email, "current_password": PASSWORD})


def test_alice_reads_her_account(as_alice: LoggedInClient, alice: User):
    answer = as_alice.get(ME)
    expected = {"id": alice.pk, "name": "Alice", "email": "alice@example.org", "username": "alice"}
    expected |= {"acting_for": [], "email_verified": False}
    assert (answer.status_code, answer.json()) == (200, expected)


@pytest.mark.parametrize("method", ["get", "patch"])
def test_the_account_needs_a_token(anonymous: APIClient, method: str):
    assert getattr(anonymous, method)(ME, {}).status_code == 401


def test_alice_changes_her_name_and_email(as_alice: LoggedInClient, alice: User):
    sent = {"name": "Alice Cooper", "email": "cooper@example.org", "current_password": PASSWORD}
    answer = as_alice.patch(ME, sent)
    expected = {"id": alice.pk, "name": "Alice Cooper", "email": "cooper@example.org", "username": "alice"}
    expected |= {"acting_for": [], "email_verified": False}
    assert (answer.status_code, answer.json()) == (200, expected)
    assert as_alice.get(ME).json() == expected


def test_a_username_that_is_the_email_follows_it(as_alice: LoggedInClient, alice: User):
    User.objects.filter(pk=alice.pk).update(username="alice@example.org")
    assert change_email(as_alice, "cooper@example.org").json()["username"] == "cooper@example.org"
    assert as_alice.get(ME).json()["username"] == "cooper@example.org"
    assert as_alice.patch(ME, {"name": "Alice Cooper"}).json()["username"] == "cooper@example.org"


def test_nothing_else_can_be_changed(as_alice: LoggedInClient, alice: User):
    before = User.objects.values().get(pk=alice.pk)
    sent = {"id": 1, "username": "root", "is_staff": True, "is_superuser": True, "is_active": False, "password": "x"}
    assert as_alice.patch(ME, sent, headers={"Prefer": "handling=lenient"}).status_code == 200
    assert User.objects.values().get(pk=alice.pk) == before


def test_an_empty_change_changes_nothing(as_alice: LoggedInClient):
    before = as_alice.get(ME).json()
    assert as_alice.patch(ME, {}).json() == before


@pytest.mark.parametrize("email", ["bob@example.org", "BOB@Example.ORG"])
def test_bobs_email_is_taken(as_alice: LoggedInClient, bob: User, email: str):
    assert refusals(change_email(as_alice, email)) == {("/email", "unique")}
    assert as_alice.get(ME).json()["email"] == "alice@example.org"


def test_bobs_email_is_taken_also_where_the_username_would_follow(as_alice: LoggedInClient, alice: User, bob: User):
    User.objects.filter(pk=alice.pk).update(username="alice@example.org")
    User.objects.filter(pk=bob.pk).update(username="bob@example.org")
    assert refusals(change_email(as_alice, "Bob@example.org")) == {("/email", "unique")}


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
    named = ["the session and its user", "the delegations and their owners"]
    with CaptureQueriesContext(connection) as queries:
        as_alice.get(ME)
    assert len(queries) == len(named), queries.captured_queries


def test_another_name_takes_these_queries(as_alice: LoggedInClient):
    named = ["the session and its user", "BEGIN", "enter", "lock the user", "update the user", "COMMIT", "delegations"]
    with CaptureQueriesContext(connection) as queries:
        assert as_alice.patch(ME, {"name": "Alice Cooper"}).status_code == 200
    assert len(queries) == len(named), queries.captured_queries


# Another e-mail needs the current password.


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ({}, "required"),
        ({"current_password": "WrongPass123"}, "invalid"),
        ({"current_password": ""}, "blank"),
        ({"current_password": None}, "null"),
        ({"current_password": ["x"]}, "invalid"),
    ],
)
@pytest.mark.parametrize("email", ["cooper@example.org", "Alice@example.org", "bob@example.org"])
def test_another_email_needs_the_current_password(
    as_alice: LoggedInClient, alice: User, bob: User, sent: dict[str, Any], code: str, email: str
):
    answer = as_alice.patch(ME, {"name": "Alice Cooper", "email": email, **sent})
    assert refusals(answer) == {("/current_password", code)}
    assert User.objects.values("name", "email").get(pk=alice.pk) == {"name": "Alice", "email": "alice@example.org"}


def test_the_same_email_and_another_name_need_no_password(as_alice: LoggedInClient):
    answer = as_alice.patch(ME, {"name": "Alice Cooper", "email": "alice@example.org"})
    assert (answer.status_code, answer.json()["name"]) == (200, "Alice Cooper")


def test_the_password_is_in_no_answer_and_no_tag(as_alice: LoggedInClient):
    before = as_alice.get(ME)
    answer = as_alice.patch(ME, {"current_password": PASSWORD})
    assert (answer.json(), answer["ETag"]) == (before.json(), before["ETag"])


def test_wrong_current_passwords_have_to_wait(as_alice: LoggedInClient, alice: User):
    key = attempts_key("session", str(as_alice.login_session.pk))
    Attempts.objects.create(key=key, count=30, until=timezone.now())
    assert as_alice.patch(ME, {"email": "a@example.org", "current_password": "Wrong-1"}).status_code == 400
    refused = change_email(as_alice, "cooper@example.org")
    assert (refused.status_code, int(refused["Retry-After"]) > 600) == (429, True)
    assert as_alice.patch(ME, {"name": "Alice Cooper"}).status_code == 200


def test_an_email_change_obeys_if_match(as_alice: LoggedInClient):
    body = {"email": "cooper@example.org", "current_password": PASSWORD}
    assert as_alice.patch(ME, body, headers={"If-Match": '"stale"'}).status_code == 412
    assert as_alice.patch(ME, body, headers={"If-Match": as_alice.get(ME)["ETag"]}).status_code == 200


# An e-mail change tells at most 20 times an hour that an address is taken.


def test_taken_emails_are_told_twenty_times_an_hour(as_alice: LoggedInClient, bob: User):
    assert [change_email(as_alice, "bob@example.org").status_code for _ in range(20)] == [400] * 20
    taken, free = change_email(as_alice, "bob@example.org"), change_email(as_alice, "free@example.org")
    assert (taken.status_code, free.status_code) == (429, 429)
    assert without_request_id(taken) == without_request_id(free)
    assert taken.headers.keys() == free.headers.keys()
    assert 3000 < int(taken["Retry-After"]) <= 3600
    assert as_alice.patch(ME, {"name": "Alice Cooper"}).status_code == 200
    Attempts.objects.update(until=timezone.now())
    assert change_email(as_alice, "free@example.org").status_code == 200


def test_the_limit_of_taken_emails_is_the_accounts_own(as_alice: LoggedInClient, alice: User, as_bob: LoggedInClient):
    Attempts.objects.create(
        key=attempts_key("email change", str(alice.pk)), count=20, until=timezone.now() + timedelta(minutes=30)
    )
    assert change_email(LoggedInClient(alice), "free@example.org").status_code == 429
    assert change_email(as_bob, "free@example.org").status_code == 200


def test_other_changes_of_the_email_do_not_count(as_alice: LoggedInClient):
    for number in range(21):
        assert change_email(as_alice, f"cooper{number}@example.org").status_code == 200
    for _ in range(3):
        body = {"email": "alice@example.org", "current_password": PASSWORD}
        assert as_alice.patch(ME, body, headers={"If-Match": '"stale"'}).status_code == 412
    assert [*Attempts.objects.values_list("count", flat=True)] == [0]
