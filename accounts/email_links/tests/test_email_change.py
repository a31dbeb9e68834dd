"""POST /api/auth/email/: another e-mail, which the new address confirms."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.email_links.tests.links import CHANGE, LOGIN, ME, VERIFY_CONFIRM, link_in, statements, text_of
from accounts.limits import attempts_key
from accounts.models import Attempts, LoginSession, User
from accounts.personal_tokens.format import hash_secret, new_token_secret, write_token
from accounts.tests.answers import refusals
from accounts.tests.smtp_server import SMTPServer
from audit.models import UserEvent
from conftest import PASSWORD, LoggedInClient
from healthcare.tests.contract_matrix import without_request_id

pytestmark = pytest.mark.django_db(transaction=True)

NEW = "cooper@example.org"


def change(client: APIClient, email: str = NEW, password: str = PASSWORD, **request: Any) -> Any:
    return client.post(CHANGE, {"email": email, "current_password": password}, **request)


def ask(client: APIClient, server: SMTPServer, email: str = NEW) -> dict[str, str]:
    """The link that a request sends to the new address."""
    assert change(client, email).status_code == 202
    [link] = [link_in(message) for recipient, message in server.take() if recipient == email]
    return link


def test_the_email_changes_when_the_new_address_confirms_it(
    as_alice: LoggedInClient, alice: User, anonymous: APIClient, mail_server: SMTPServer, settings: Any
):
    settings.PUBLIC_URL = "https://app.example.org"
    answer = change(as_alice)
    assert (answer.status_code, answer.content) == (202, b"")
    sent = dict(mail_server.take())
    assert {recipient: message["Subject"] for recipient, message in sent.items()} == {
        NEW: "Confirm your new e-mail",
        "alice@example.org": "Another e-mail was asked for",
    }
    link = link_in(sent[NEW])
    url = f"https://app.example.org/verify-email?uid={link['uid']}&token={link['token']}"
    assert url in text_of(sent[NEW]).splitlines()
    assert link_in(sent["alice@example.org"]) == {}
    assert as_alice.get(ME).json()["email"] == "alice@example.org"

    assert anonymous.post(VERIFY_CONFIRM, link).status_code == 204
    account = as_alice.get(ME).json()
    assert (account["email"], account["username"], account["email_verified"]) == (NEW, "alice", True)
    assert [(to, message["Subject"]) for to, message in mail_server.take()] == [
        ("alice@example.org", "Your e-mail was changed")
    ]
    assert refusals(anonymous.post(VERIFY_CONFIRM, link)) == {("/token", "invalid")}
    alice.refresh_from_db()
    assert alice.pending_email is None


def test_history_names_alice_as_the_actor_of_the_change(
    as_alice: LoggedInClient, alice: User, anonymous: APIClient, mail_server: SMTPServer
):
    answer = anonymous.post(VERIFY_CONFIRM, ask(as_alice, mail_server))
    event = UserEvent.objects.filter(id=alice.pk).latest("pgh_id")
    assert (event.email, event.pgh_context["actor"]) == (NEW, alice.pk)
    assert event.pgh_context["request_id"] == answer["X-Request-Id"]


def test_a_username_that_is_the_email_follows_it(
    as_alice: LoggedInClient, alice: User, anonymous: APIClient, mail_server: SMTPServer
):
    User.objects.filter(pk=alice.pk).update(username=alice.email)
    assert anonymous.post(VERIFY_CONFIRM, ask(as_alice, mail_server)).status_code == 204
    assert as_alice.get(ME).json()["username"] == NEW
    assert anonymous.post(LOGIN, {"username": NEW, "password": PASSWORD}).status_code == 200


def test_the_own_email_in_another_case_is_confirmed_like_a_new_one(
    as_alice: LoggedInClient, anonymous: APIClient, mail_server: SMTPServer
):
    assert anonymous.post(VERIFY_CONFIRM, ask(as_alice, mail_server, "Alice@Example.org")).status_code == 204
    account = as_alice.get(ME).json()
    assert (account["email"], account["email_verified"]) == ("Alice@Example.org", True)


@pytest.mark.parametrize("changed", [{"password": "!other"}, {"is_active": False}])
def test_who_has_changed_meanwhile_asks_for_nothing(
    as_alice: LoggedInClient, alice: User, mail_server: SMTPServer, monkeypatch: pytest.MonkeyPatch, changed: Any
):
    def change_user(*_: Any) -> None:
        User.objects.filter(pk=alice.pk).update(**changed)

    monkeypatch.setattr("accounts.email_links.views.prove_identity", change_user)
    answer = change(as_alice)
    assert (answer.status_code, answer.json()["detail"]) == (401, "The session has ended; log in again.")
    assert mail_server.take() == []
    assert not User.objects.exclude(pending_email=None).exists()


def test_only_the_last_address_that_was_asked_for_can_confirm(
    as_alice: LoggedInClient, anonymous: APIClient, mail_server: SMTPServer
):
    first, second = (ask(as_alice, mail_server, f"{name}@example.org") for name in ("first", "second"))
    assert refusals(anonymous.post(VERIFY_CONFIRM, first)) == {("/token", "invalid")}
    assert anonymous.post(VERIFY_CONFIRM, second).status_code == 204
    assert as_alice.get(ME).json()["email"] == "second@example.org"


def test_another_password_withdraws_the_request(
    as_alice: LoggedInClient, alice: User, anonymous: APIClient, mail_server: SMTPServer
):
    link = ask(as_alice, mail_server)
    body = {"current_password": PASSWORD, "new_password": "Kf7-fifteen"}
    assert as_alice.post("/api/auth/password/", body).status_code == 204
    assert refusals(anonymous.post(VERIFY_CONFIRM, link)) == {("/token", "invalid")}


# An e-mail that another account has


def test_a_taken_address_gets_the_same_answer_after_the_same_statements_and_no_link(
    as_alice: LoggedInClient, alice: User, bob: User, mail_server: SMTPServer
):
    answers, sent, mails = [], [], []
    for one in (NEW, "BOB@Example.org"):
        Attempts.objects.all().delete()
        with CaptureQueriesContext(connection) as queries:
            answer = change(as_alice, one)
        answers.append(without_request_id(answer))
        sent.append(statements(queries))
        mails.append(mail_server.take())
        # The account looks the same from then on, too.
        assert User.objects.values_list("email", "pending_email", "verified_email").get(pk=alice.pk) == (
            "alice@example.org", one, None,
        )  # fmt: skip
    assert answers[0] == answers[1]
    assert sent[0] == sent[1]
    assert [(to, message["Subject"], link_in(message) == {}) for to, message in mails[1]] == [
        ("bob@example.org", "Your e-mail has an account already", True),
        ("alice@example.org", "Another e-mail was asked for", True),
    ]
    assert mails[0][1][1].get_payload() == mails[1][1][1].get_payload()


def test_an_address_that_was_taken_meanwhile_is_refused(
    as_alice: LoggedInClient, anonymous: APIClient, mail_server: SMTPServer, make_user: Callable[..., User]
):
    link = ask(as_alice, mail_server)
    make_user("cooper", email="Cooper@example.org")
    answer = anonymous.post(VERIFY_CONFIRM, link)
    assert refusals(answer) == {("/token", "unique")}
    assert b"cooper" not in answer.content.lower()
    assert as_alice.get(ME).json()["email"] == "alice@example.org"
    assert mail_server.take() == []


# Who may ask, and how often


def test_it_needs_the_current_password(as_alice: LoggedInClient, alice: User, mail_server: SMTPServer):
    assert refusals(change(as_alice, password="Wrong-1")) == {("/current_password", "invalid")}
    assert refusals(as_alice.post(CHANGE, {"email": NEW})) == {("/current_password", "required")}
    assert refusals(change(as_alice, "alice@example.org")) == {("/email", "same")}
    assert refusals(change(as_alice, "cooper")) == {("/email", "invalid")}
    alice.refresh_from_db()
    assert (alice.pending_email, mail_server.take()) == (None, [])


def test_it_needs_a_login_and_no_token_will_do(alice: User, anonymous: APIClient, mail_server: SMTPServer):
    assert change(anonymous).status_code == 401


def test_wrong_passwords_have_to_wait(as_alice: LoggedInClient, mail_server: SMTPServer):
    key = attempts_key("session", str(as_alice.login_session.pk))
    Attempts.objects.create(key=key, count=30, until=timezone.now())
    assert [change(as_alice, password="Wrong-1").status_code, change(as_alice).status_code] == [400, 429]
    assert mail_server.take() == []


def test_of_more_than_three_requests_an_hour_for_an_address_the_others_change_nothing(
    as_alice: LoggedInClient, alice: User, as_bob: LoggedInClient, anonymous: APIClient, mail_server: SMTPServer
):
    links = [ask(as_alice, mail_server) for _ in range(3)]
    assert change(as_alice).status_code == 202
    assert change(as_bob).status_code == 202
    assert mail_server.take() == []
    assert not User.objects.filter(username="bob", pending_email=NEW).exists()
    assert anonymous.post(VERIFY_CONFIRM, links[-1]).status_code == 204


def test_the_21st_request_of_a_client_within_an_hour_is_refused(as_alice: LoggedInClient, mail_server: SMTPServer):
    key = attempts_key("e-mail change from", "127.0.0.1")
    Attempts.objects.create(key=key, count=20, until=timezone.now() + timedelta(minutes=9))
    assert change(as_alice).status_code == 429
    assert change(as_alice, REMOTE_ADDR="203.0.113.7").status_code == 202


def test_a_repeated_request_with_its_key_is_executed_once(as_alice: LoggedInClient, mail_server: SMTPServer):
    answers = [change(as_alice, headers={"Idempotency-Key": "once"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[1]["Idempotency-Replayed"] == "true"
    assert len(mail_server.take()) == 2


# PATCH /api/auth/me/


def test_the_account_names_this_call_for_another_email(
    as_alice: LoggedInClient, alice: User, bob: User, mail_server: SMTPServer
):
    for email in (NEW, "Alice@example.org", "bob@example.org"):
        answer = as_alice.patch(ME, {"name": "Alice Cooper", "email": email, "current_password": PASSWORD})
        assert refusals(answer) == {("/email", "unconfirmed")}
        assert "/api/auth/email/" in answer.json()["errors"][0]["detail"]
    assert as_alice.get(ME).json()["name"] == "Alice"
    assert as_alice.patch(ME, {"name": "Alice Cooper", "email": "alice@example.org"}).status_code == 200
    assert mail_server.take() == []


def test_a_personal_access_token_changes_no_email(alice: User, anonymous: APIClient, mail_server: SMTPServer):
    token = LoginSession.new(alice, "", None)
    token.kind, token.scope, secret = LoginSession.Kind.TOKEN, LoginSession.Scope.WRITE, new_token_secret()
    token.secret_hash = hash_secret(secret)
    token.save()
    anonymous.credentials(HTTP_AUTHORIZATION=f"Bearer {write_token(token.pk, alice.pk, secret)}")
    assert anonymous.get(ME).status_code == 200
    refused = change(anonymous)
    assert (refused.status_code, refused.json()["code"], mail_server.take()) == (403, "not_by_token", [])
