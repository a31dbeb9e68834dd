"""POST /api/auth/password/reset/ and /api/auth/password/reset/confirm/: a new password by a link from an e-mail."""

from base64 import b32decode
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_otp.oath import totp
from rest_framework.test import APIClient

from accounts import mail
from accounts.delegations.rules import found_clinic
from accounts.email_links.tests.links import (
    LOGIN,
    ME,
    NEW_PASSWORD,
    RESET,
    RESET_CONFIRM,
    link_in,
    statements,
    text_of,
)
from accounts.email_links.tokens import PASSWORD_RESET, encode_uid
from accounts.limits import account_key
from accounts.models import Attempts, LoginSession, User
from accounts.second_factor.rules import begin_factor, confirm_factor
from accounts.tests.answers import refusals
from accounts.tests.smtp_server import SMTPServer
from conftest import PASSWORD, LoggedInClient
from healthcare.api.models import IdempotencyRecord
from healthcare.operations.logs import SafeFormatter
from healthcare.tests.contract_matrix import without_request_id

pytestmark = pytest.mark.django_db(transaction=True)


def ask(client: APIClient, server: SMTPServer, email: str = "alice@example.org") -> dict[str, str]:
    """The link that a request sends."""
    assert client.post(RESET, {"email": email}).status_code == 202
    [(_, message)] = server.take()
    return link_in(message)


def confirm(client: APIClient, link: dict[str, str], password: str = NEW_PASSWORD) -> Any:
    return client.post(RESET_CONFIRM, link | {"new_password": password})


def can_log_in(client: APIClient, password: str) -> bool:
    return client.post(LOGIN, {"username": "alice", "password": password}).status_code == 200


@pytest.fixture
def alices_token(alice: User) -> LoginSession:
    """A personal access token of alice."""
    token = LoginSession.new(alice, "", None)
    token.kind, token.scope, token.secret_hash = LoginSession.Kind.TOKEN, "read", "0" * 64
    token.save()
    return token


def test_alice_sets_a_new_password_by_the_link_that_she_gets(
    alice: User, anonymous: APIClient, mail_server: SMTPServer, settings: Any
):
    settings.PUBLIC_URL = "https://app.example.org/clinic"
    answer = anonymous.post(RESET, {"email": "Alice@Example.org"})
    assert (answer.status_code, answer.content) == (202, b"")
    [(recipient, message)] = mail_server.take()
    assert (recipient, message["Subject"]) == ("alice@example.org", "Reset your password")
    link = link_in(message)
    url = f"https://app.example.org/clinic/reset-password?uid={link['uid']}&token={link['token']}"
    assert url in text_of(message).splitlines()
    assert "within 1 hour" in text_of(message)
    answer = confirm(anonymous, link)
    assert (answer.status_code, answer.content) == (204, b"")
    assert (can_log_in(anonymous, PASSWORD), can_log_in(anonymous, NEW_PASSWORD)) == (False, True)


def test_without_a_front_end_the_email_holds_the_parts_of_the_link(
    alice: User, anonymous: APIClient, mail_server: SMTPServer
):
    anonymous.post(RESET, {"email": alice.email})
    [(_, message)] = mail_server.take()
    link = link_in(message)
    assert {f"uid: {link['uid']}", f"token: {link['token']}"} <= {*text_of(message).splitlines()}
    assert "http" not in text_of(message)
    assert confirm(anonymous, link).status_code == 204


def test_a_reset_ends_every_login_and_leaves_the_tokens(
    as_alice: LoggedInClient, alice: User, alices_token: LoginSession, anonymous: APIClient, mail_server: SMTPServer
):
    assert confirm(anonymous, ask(anonymous, mail_server)).status_code == 204
    assert as_alice.get(ME).status_code == 401
    assert [*alice.sessions.filter(revoked_at=None)] == [alices_token]


def test_a_reset_ends_the_tokens_too_where_the_setting_says_so(
    as_alice: LoggedInClient,
    alice: User,
    alices_token: LoginSession,
    anonymous: APIClient,
    mail_server: SMTPServer,
    settings: Any,
):
    settings.PASSWORD_RESET_ENDS_TOKENS = True
    assert confirm(anonymous, ask(anonymous, mail_server)).status_code == 204
    assert not alice.sessions.filter(revoked_at=None).exists()


def test_a_reset_ends_the_sessions_of_the_admin(staff: User, anonymous: APIClient, mail_server: SMTPServer):
    admin = Client()
    admin.force_login(staff)
    assert admin.get("/admin/").status_code == 200
    assert confirm(anonymous, ask(anonymous, mail_server, "staff@example.org")).status_code == 204
    assert admin.get("/admin/").status_code == 302


def test_a_reset_verifies_the_email_and_tells_its_owner(alice: User, anonymous: APIClient, mail_server: SMTPServer):
    """The link was read in that mailbox, as a link that verifies it is."""
    assert not alice.has_verified_email
    confirm(anonymous, ask(anonymous, mail_server))
    alice.refresh_from_db()
    assert alice.has_verified_email
    [(recipient, message)] = mail_server.take()
    assert (recipient, message["Subject"]) == ("alice@example.org", "Your password was changed")
    assert link_in(message) == {}


def test_neither_the_address_nor_the_token_is_logged_or_stored(
    alice: User, anonymous: APIClient, mail_server: SMTPServer, caplog: pytest.LogCaptureFixture
):
    link = ask(anonymous, mail_server)
    body = link | {"new_password": NEW_PASSWORD}
    answer = anonymous.post(RESET_CONFIRM, body, headers={"Idempotency-Key": "once"})
    confirm(anonymous, link)
    logged = [SafeFormatter().format(record) for record in caplog.records if record.name == "healthcare.security"]
    account = account_key("alice", alice)
    assert [line.partition("healthcare.security ")[2].partition(" address=")[0] for line in logged] == [
        f"password reset asked for account={account}",
        f"password reset by link account={account}",
        "link not valid",
    ]
    assert logged[1].endswith(f" address=127.0.0.1 request_id={answer['X-Request-Id']}")
    stored = repr([*Attempts.objects.values(), *IdempotencyRecord.objects.values()])
    written = caplog.text + "".join(SafeFormatter().format(record) for record in caplog.records) + stored
    for secret in (link["token"], link["token"].partition("-")[2], NEW_PASSWORD, "alice@example.org"):
        assert secret not in written


def test_a_reset_does_not_replace_the_second_factor(alice: User, anonymous: APIClient, mail_server: SMTPServer):
    secret = b32decode(begin_factor(alice).secret)
    request: Any = RequestFactory().post("/")
    assert confirm_factor(request, alice, f"{totp(secret):06}")
    mail_server.take()  # about the second factor
    assert confirm(anonymous, ask(anonymous, mail_server)).status_code == 204
    refused = anonymous.post(LOGIN, {"username": "alice", "password": NEW_PASSWORD})
    assert (refused.status_code, refused.json()["code"]) == (401, "otp_required")


def test_no_name_and_no_address_writes_a_header_of_an_email(alice: User, anonymous: APIClient, mail_server: SMTPServer):
    """Neither is in an e-mail but for the address it is sent to, and no address is more than one."""
    evil = "x\r\nBcc: eve@example.org"
    User.objects.filter(pk=alice.pk).update(name=evil)
    anonymous.post(RESET, {"email": alice.email})
    [(recipient, message)] = mail_server.take()
    assert (recipient, message["To"], message["Bcc"]) == (alice.email, alice.email, None)
    assert {*message.keys()} == {
        "Content-Type", "MIME-Version", "Content-Transfer-Encoding", "Subject", "From", "To", "Date", "Message-ID",
    }  # fmt: skip
    assert "eve" not in message.as_string()
    # Not even an address that nobody can register with, which an administrator has typed into the database.
    User.objects.filter(pk=alice.pk).update(email=f"alice@example.org{evil}")
    assert anonymous.post(RESET, {"email": f"alice@example.org{evil}"}).status_code == 400
    mail.send_later([f"alice@example.org{evil}"], "Subject", "Text")
    assert mail_server.take() == []


def test_an_address_is_compared_as_a_login_is(alice: User, anonymous: APIClient, mail_server: SMTPServer):
    for spelling in ("alice@example.org", "ALICE@EXAMPLE.ORG", " Alice@example.org "):
        assert anonymous.post(RESET, {"email": spelling}).status_code == 202
        assert [recipient for recipient, _ in mail_server.take()] == ["alice@example.org"]


# Who gets no e-mail


@pytest.fixture
def nobody(alice: User, make_user: Callable[..., User]) -> list[str]:
    """E-mails of nobody, of a deactivated user, and of one who has no password."""
    make_user("gone", is_active=False)
    make_user("sso", password=None)
    found_clinic("Sunrise", "sunrise", alice)
    return ["nobody@example.org", "gone@example.org", "sso@example.org", "sunrise@example.org"]


def test_an_unknown_an_inactive_and_a_passwordless_user_get_no_email_and_the_same_answer(
    nobody: list[str], anonymous: APIClient, mail_server: SMTPServer
):
    answers, sent = [], []
    for email in ["alice@example.org", *nobody]:
        Attempts.objects.all().delete()
        with CaptureQueriesContext(connection) as queries:
            answer = anonymous.post(RESET, {"email": email})
        answers.append(without_request_id(answer))
        sent.append(statements(queries))
    assert [recipient for recipient, _ in mail_server.take()] == ["alice@example.org"]
    assert all(answer == answers[0] for answer in answers)
    assert all(one == sent[0] for one in sent), sent
    assert len(sent[0]) == len(["count the client", "count the address", "the user"])


def test_a_token_is_signed_and_an_email_is_queued_for_an_unknown_address_too(
    alice: User, anonymous: APIClient, mail_server: SMTPServer, monkeypatch: pytest.MonkeyPatch
):
    signed: list[int] = []
    sign = PASSWORD_RESET._make_token_with_timestamp

    def record(user: User, *rest: Any) -> str:
        signed.append(user.pk)
        return sign(user, *rest)

    monkeypatch.setattr(PASSWORD_RESET, "_make_token_with_timestamp", record)
    queued: list[int] = []

    def build(subject: str, body: str, to: list[str]) -> EmailMessage:
        queued.append(len(to))
        return EmailMessage(subject, body, to=to)

    monkeypatch.setattr(mail, "EmailMessage", build)
    for email in ("alice@example.org", "nobody@example.org"):
        anonymous.post(RESET, {"email": email})
    assert signed == [alice.pk, 0]
    assert queued == [1, 0]
    for uid in (encode_uid(alice), "OTk5OTk5"):
        assert confirm(anonymous, {"uid": uid, "token": "d2x4nk-0f8fad5bd9cb469fa16570867728950e"}).status_code == 400
    assert signed == [alice.pk, 0, alice.pk, 0]


def test_a_link_no_longer_works_for_a_user_who_was_deactivated(
    alice: User, anonymous: APIClient, mail_server: SMTPServer
):
    link = ask(anonymous, mail_server)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert refusals(confirm(anonymous, link)) == {("/token", "invalid")}


# Tokens that do not work


def test_every_token_that_does_not_work_gets_the_same_bytes(
    alice: User, bob: User, anonymous: APIClient, mail_server: SMTPServer, monkeypatch: pytest.MonkeyPatch
):
    used = ask(anonymous, mail_server)
    assert confirm(anonymous, used).status_code == 204
    mail_server.take()
    current = ask(anonymous, mail_server)
    head, _, signature = current["token"].partition("-")
    wrong = [
        used,
        current | {"uid": encode_uid(bob)},
        current | {"uid": "OTk5OTk5"},
        *(current | {"uid": uid} for uid in ("x", "é", "MQ==", "LTE", "MQ" * 40, "0")),
        *(
            current | {"token": token}
            for token in ("x", "-", "é-é", f"{head}-", f"{head}-{signature[::-1]}", f"0-{signature}", signature * 9)
        ),
    ]
    answers = [confirm(anonymous, link) for link in wrong]
    now = PASSWORD_RESET._now
    monkeypatch.setattr(PASSWORD_RESET, "_now", lambda: now() + timedelta(minutes=60, seconds=1))
    answers.append(confirm(anonymous, current))
    assert {refusals(answer).pop() for answer in answers} == {("/token", "invalid")}
    assert len({repr(without_request_id(answer)) for answer in answers}) == 1
    assert can_log_in(anonymous, NEW_PASSWORD)


def test_a_link_works_until_its_lifetime_ends(
    alice: User, anonymous: APIClient, mail_server: SMTPServer, monkeypatch: pytest.MonkeyPatch, settings: Any
):
    settings.PASSWORD_RESET_LIFETIME = timedelta(minutes=5)
    link = ask(anonymous, mail_server)
    sent_at: datetime = PASSWORD_RESET._now()
    monkeypatch.setattr(PASSWORD_RESET, "_now", lambda: sent_at + timedelta(minutes=5, seconds=2))
    assert confirm(anonymous, link).status_code == 400
    monkeypatch.setattr(PASSWORD_RESET, "_now", lambda: sent_at + timedelta(minutes=4))
    assert confirm(anonymous, link).status_code == 204


def test_a_link_no_longer_works_once_the_account_has_changed(
    alice: User, anonymous: APIClient, mail_server: SMTPServer
):
    changes = [
        {"password": "x"},
        {"email": "cooper@example.org"},
        {"verified_email": "alice@example.org"},
        {"pending_email": "cooper@example.org"},
    ]
    before = User.objects.values("password", "email", "verified_email", "pending_email").get(pk=alice.pk)
    link = ask(anonymous, mail_server)
    for change in changes:
        User.objects.filter(pk=alice.pk).update(**change)
        assert confirm(anonymous, link).status_code == 400, change
        User.objects.filter(pk=alice.pk).update(**before)
    assert confirm(anonymous, link).status_code == 204


def test_a_weak_password_is_refused_and_the_link_still_works(
    alice: User, anonymous: APIClient, mail_server: SMTPServer
):
    link = ask(anonymous, mail_server)
    assert refusals(confirm(anonymous, link, "alice123")) >= {("/new_password", "password_too_similar")}
    assert refusals(confirm(anonymous, link | {"token": "x"}, "alice123")) == {("/token", "invalid")}
    assert confirm(anonymous, link).status_code == 204


def test_a_repeated_confirmation_with_its_key_gets_the_first_answer(
    alice: User, anonymous: APIClient, mail_server: SMTPServer
):
    body = ask(anonymous, mail_server) | {"new_password": NEW_PASSWORD}
    answers = [anonymous.post(RESET_CONFIRM, body, headers={"Idempotency-Key": "again"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [204, 204]
    assert answers[1]["Idempotency-Replayed"] == "true"
    assert confirm(anonymous, body).status_code == 400


BAD_BODIES: list[tuple[str, dict[str, Any], str]] = [
    (RESET, {}, "/email"),
    (RESET, {"email": "alice"}, "/email"),
    (RESET, {"email": None}, "/email"),
    (RESET, {"email": "a@example.org\nBcc: b@example.org"}, "/email"),
    (RESET, {"email": "ａ@example.org"}, "/email"),
    (RESET, {"email": "a@example.org", "name": "x"}, "/name"),
    (RESET_CONFIRM, {"token": "x", "new_password": NEW_PASSWORD}, "/uid"),
    (RESET_CONFIRM, {"uid": "MQ", "token": ["x"], "new_password": NEW_PASSWORD}, "/token"),
    (RESET_CONFIRM, {"uid": "MQ", "token": "x"}, "/new_password"),
    (RESET_CONFIRM, {"uid": "MQ", "token": "x", "new_password": "x" * 257}, "/new_password"),
]


def test_a_bad_body_is_refused_and_sends_and_counts_nothing(alice: User, anonymous: APIClient, mail_server: SMTPServer):
    for path, body, pointer in BAD_BODIES:
        assert {one for one, _ in refusals(anonymous.post(path, body))} == {pointer}, body
    assert (mail_server.take(), Attempts.objects.exists()) == ([], False)


# Limits


def test_the_fourth_request_for_an_address_within_an_hour_sends_nothing_and_answers_the_same(
    alice: User, anonymous: APIClient, mail_server: SMTPServer
):
    for email, sent in (("alice@example.org", 3), ("nobody@example.org", 0)):
        answers = [anonymous.post(RESET, {"email": one}) for one in (email, email.upper(), email, email)]
        assert {(answer.status_code, answer.content) for answer in answers} == {(202, b"")}
        assert len(mail_server.take()) == sent
    Attempts.objects.update(until=timezone.now())
    anonymous.post(RESET, {"email": "alice@example.org"})
    assert len(mail_server.take()) == 1


def test_the_21st_request_of_a_client_within_an_hour_is_refused(
    alice: User, anonymous: APIClient, mail_server: SMTPServer
):
    for number in range(20):
        assert anonymous.post(RESET, {"email": f"user{number}@example.org"}).status_code == 202
    refused = [anonymous.post(RESET, {"email": email}) for email in ("alice@example.org", "nobody@example.org")]
    assert [answer.status_code for answer in refused] == [429, 429]
    assert refused[0].json() | {"request_id": ""} == refused[1].json() | {"request_id": ""}
    assert refused[0]["RateLimit-Policy"] == '"e-mails";q=20;w=3600'
    assert mail_server.take() == []
    assert anonymous.post(RESET, {"email": "alice@example.org"}, REMOTE_ADDR="203.0.113.7").status_code == 202


def test_the_21st_wrong_token_of_a_client_within_an_hour_is_refused(
    alice: User, anonymous: APIClient, mail_server: SMTPServer
):
    link = ask(anonymous, mail_server)
    wrong = {"uid": link["uid"], "token": "x"}
    assert [confirm(anonymous, wrong).status_code for _ in range(20)] == [400] * 20
    refused = confirm(anonymous, link)
    assert (refused.status_code, refused["RateLimit-Policy"]) == (429, '"links";q=20;w=3600')
    assert anonymous.post(RESET_CONFIRM, link | {"new_password": NEW_PASSWORD}, REMOTE_ADDR="::1").status_code == 204


def test_right_tokens_and_weak_passwords_do_not_count_as_wrong_ones(
    alice: User, anonymous: APIClient, mail_server: SMTPServer
):
    link = ask(anonymous, mail_server)
    assert [confirm(anonymous, link, "weak").status_code for _ in range(21)] == [400] * 21
    assert confirm(anonymous, link).status_code == 204
    assert [*Attempts.objects.filter(kind=Attempts.Kind.WRONG_LINKS).values_list("count", flat=True)] == [0]
