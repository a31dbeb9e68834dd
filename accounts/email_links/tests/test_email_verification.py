"""POST /api/auth/email/verify/ and /api/auth/email/verify/confirm/, and logins that need a verified e-mail."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.email_links.tests.links import (
    LOGIN,
    ME,
    RESET_CONFIRM,
    VERIFY,
    VERIFY_CONFIRM,
    link_in,
    statements,
    text_of,
)
from accounts.email_links.tokens import EMAIL_VERIFICATION
from accounts.models import Attempts, User
from accounts.tests.answers import refusals
from accounts.tests.smtp_server import SMTPServer
from conftest import PASSWORD, LoggedInClient
from healthcare.tests.contract_matrix import without_request_id

pytestmark = pytest.mark.django_db(transaction=True)

ACCOUNT = {"name": "Eve", "username": "eve", "email": "eve@example.org", "password": PASSWORD}
REGISTER = "/api/auth/register/"


def ask(client: APIClient, server: SMTPServer, email: str = "alice@example.org") -> dict[str, str]:
    """The link that a request sends."""
    assert client.post(VERIFY, {"email": email}).status_code == 202
    [(_, message)] = server.take()
    return link_in(message)


def log_in(client: APIClient, **credentials: str) -> Any:
    return client.post(LOGIN, {"username": "alice", "password": PASSWORD} | credentials)


def test_alice_verifies_her_email_by_the_link_that_she_gets(
    as_alice: LoggedInClient, anonymous: APIClient, mail_server: SMTPServer, settings: Any
):
    settings.PUBLIC_URL = "https://app.example.org"
    assert as_alice.get(ME).json()["email_verified"] is False
    answer = anonymous.post(VERIFY, {"email": "Alice@example.org"})
    assert (answer.status_code, answer.content) == (202, b"")
    [(recipient, message)] = mail_server.take()
    assert (recipient, message["Subject"]) == ("alice@example.org", "Confirm your e-mail")
    link = link_in(message)
    url = f"https://app.example.org/verify-email?uid={link['uid']}&token={link['token']}"
    assert url in text_of(message).splitlines()
    assert "within 72 hours" in text_of(message)
    answer = anonymous.post(VERIFY_CONFIRM, link)
    assert (answer.status_code, answer.content) == (204, b"")
    assert as_alice.get(ME).json()["email_verified"] is True
    assert refusals(anonymous.post(VERIFY_CONFIRM, link)) == {("/token", "invalid")}
    assert mail_server.take() == []


def test_a_verified_email_is_so_until_it_changes(alice: User, as_alice: LoggedInClient):
    User.objects.filter(pk=alice.pk).update(verified_email=alice.email)
    assert as_alice.get(ME).json()["email_verified"] is True
    as_alice.patch(ME, {"email": "cooper@example.org", "current_password": PASSWORD})
    assert as_alice.get(ME).json()["email_verified"] is False


def test_registration_sends_the_first_link_once_the_account_is_stored(anonymous: APIClient, mail_server: SMTPServer):
    refused = anonymous.post(REGISTER, ACCOUNT | {"username": "x@example.org"})
    assert (refused.status_code, mail_server.take()) == (400, [])
    for _ in range(2):  # the second is a repetition
        answer = anonymous.post(REGISTER, ACCOUNT, headers={"Idempotency-Key": "once"})
        assert (answer.status_code, answer.json().keys()) == (201, {"id", "name", "email", "username"})
    [(recipient, message)] = mail_server.take()
    assert recipient == "eve@example.org"
    assert "Eve" not in message.as_string()
    assert anonymous.post(VERIFY_CONFIRM, link_in(message)).status_code == 204
    assert User.objects.get(username="eve").has_verified_email


def test_an_unknown_a_verified_and_an_inactive_email_get_no_link_and_the_same_answer(
    alice: User, make_user: Any, anonymous: APIClient, mail_server: SMTPServer
):
    make_user("gone", is_active=False)
    make_user("vera", verified_email="vera@example.org")
    answers, sent = [], []
    for name in ("alice", "nobody", "gone", "vera"):
        Attempts.objects.all().delete()
        with CaptureQueriesContext(connection) as queries:
            answer = anonymous.post(VERIFY, {"email": f"{name}@example.org"})
        answers.append(without_request_id(answer))
        sent.append(statements(queries))
    assert [recipient for recipient, _ in mail_server.take()] == ["alice@example.org"]
    assert all(answer == answers[0] for answer in answers)
    assert all(one == sent[0] for one in sent), sent


def test_the_limits_are_those_of_resets_and_counted_apart(alice: User, anonymous: APIClient, mail_server: SMTPServer):
    for _ in range(4):
        anonymous.post("/api/auth/password/reset/", {"email": alice.email})
    assert len(mail_server.take()) == 3
    for _ in range(4):
        assert anonymous.post(VERIFY, {"email": alice.email}).status_code == 202
    assert len(mail_server.take()) == 3
    for number in range(16):
        assert anonymous.post(VERIFY, {"email": f"user{number}@example.org"}).status_code == 202
    assert anonymous.post(VERIFY, {"email": alice.email}).status_code == 429
    assert anonymous.post("/api/auth/password/reset/", {"email": alice.email}).status_code == 202


def test_a_link_that_verifies_resets_no_password_and_the_other_way_round(
    alice: User, anonymous: APIClient, mail_server: SMTPServer
):
    verifies = ask(anonymous, mail_server)
    body = verifies | {"new_password": "Kf7-fifteen"}
    assert refusals(anonymous.post(RESET_CONFIRM, body)) == {("/token", "invalid")}
    anonymous.post("/api/auth/password/reset/", {"email": alice.email})
    [(_, message)] = mail_server.take()
    assert refusals(anonymous.post(VERIFY_CONFIRM, link_in(message))) == {("/token", "invalid")}
    assert anonymous.post(VERIFY_CONFIRM, verifies).status_code == 204


def test_a_link_works_for_three_days(
    alice: User, anonymous: APIClient, mail_server: SMTPServer, monkeypatch: pytest.MonkeyPatch
):
    link = ask(anonymous, mail_server)
    sent_at = EMAIL_VERIFICATION._now()
    answers = []
    for hours in (72.01, 71.99):
        monkeypatch.setattr(EMAIL_VERIFICATION, "_now", lambda hours=hours: sent_at + timedelta(hours=hours))
        answers.append(anonymous.post(VERIFY_CONFIRM, link).status_code)
    assert answers == [400, 204]


def test_a_link_no_longer_works_once_the_account_was_deactivated(
    alice: User, anonymous: APIClient, mail_server: SMTPServer
):
    link = ask(anonymous, mail_server)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert refusals(anonymous.post(VERIFY_CONFIRM, link)) == {("/token", "invalid")}


# REQUIRE_VERIFIED_EMAIL


def test_a_login_needs_a_verified_email_where_the_setting_says_so(
    alice: User, anonymous: APIClient, mail_server: SMTPServer, settings: Any
):
    settings.REQUIRE_VERIFIED_EMAIL = True
    refused = log_in(anonymous)
    assert (refused.status_code, refused.json()["code"]) == (401, "email_unverified")
    assert "/api/auth/email/verify/" in refused.json()["detail"]
    assert refused["WWW-Authenticate"].startswith("Bearer")
    assert anonymous.post(VERIFY_CONFIRM, ask(anonymous, mail_server)).status_code == 204
    assert log_in(anonymous).status_code == 200


def test_a_wrong_password_says_nothing_about_the_email(alice: User, bob: User, anonymous: APIClient, settings: Any):
    settings.REQUIRE_VERIFIED_EMAIL = True
    User.objects.filter(pk=bob.pk).update(verified_email=bob.email)
    answers = [log_in(anonymous, username=name, password="Wrong-1") for name in ("alice", "bob", "nobody")]
    assert "code" not in answers[0].json()
    assert len({repr(without_request_id(answer)) for answer in answers}) == 1


def test_a_login_that_lacks_a_verified_email_neither_counts_nor_clears_failures(
    alice: User, anonymous: APIClient, settings: Any
):
    settings.REQUIRE_VERIFIED_EMAIL = True
    log_in(anonymous, password="Wrong-1")
    before = [*Attempts.objects.order_by("key").values("key", "count")]
    assert log_in(anonymous).status_code == 401
    assert [*Attempts.objects.order_by("key").values("key", "count")] == before


def test_staff_log_in_to_the_admin_without_a_verified_email(staff: User, settings: Any):
    settings.REQUIRE_VERIFIED_EMAIL = True
    assert Client().post("/admin/login/", {"username": "staff", "password": PASSWORD}).status_code == 302


def test_sessions_that_exist_go_on(as_alice: LoggedInClient, settings: Any):
    settings.REQUIRE_VERIFIED_EMAIL = True
    assert as_alice.get(ME).status_code == 200
    assert as_alice.post("/api/auth/refresh/", {"refresh": as_alice.tokens["refresh"]}).status_code == 200
