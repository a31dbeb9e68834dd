"""Users and sessions as commands and the shell use them, beside the API."""

from datetime import timedelta

import pytest
from django.contrib.auth import authenticate
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, models
from django.test import RequestFactory
from django.utils import timezone

from accounts.hashers import Argon2idHasher
from accounts.login_session_sql import LIVE_SESSION_SQL
from accounts.models import Attempts, LoginSession, User
from accounts.personal_tokens.rules import create_token
from conftest import PASSWORD


@pytest.mark.parametrize("identifier", ["alice", "ALICE", "ａlice", " alice\n", "Alice@Example.ORG"])
def test_a_user_is_found_by_name_or_email(alice: User, identifier: str):
    assert User.objects.find_by_identifier(identifier) == alice


@pytest.mark.parametrize("identifier", ["", "alic", "alice@", "%", "a_ice", "аlice", "alice@example.org.evil.example"])
def test_nobody_is_found_by_anything_else(alice: User, identifier: str):
    assert User.objects.find_by_identifier(identifier) is None


@pytest.mark.parametrize(
    ("constraint", "fields"),
    [
        ("user_username_unique", {"username": "ALICE", "email": "other@example.org"}),
        ("user_email_unique", {"username": "other", "email": "Alice@Example.ORG"}),
        ("user_username_is_own_email", {"username": "bob@example.org", "email": "other@example.org"}),
    ],
)
def test_constraints_keep_usernames_and_emails_unique(alice: User, constraint: str, fields: dict[str, str]):
    with pytest.raises(IntegrityError, match=constraint):
        User.objects.create_user(password=None, name="Other", **fields)


def superuser(monkeypatch: pytest.MonkeyPatch, **fields: str) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
    call_command("createsuperuser", interactive=False, verbosity=0, name="Root", **fields)


def test_createsuperuser_creates_staff(db: None, monkeypatch: pytest.MonkeyPatch):
    superuser(monkeypatch, username="root", email="root@example.org")
    root = User.objects.get()
    assert (root.is_staff, root.is_superuser, root.is_active) == (True, True, True)
    assert root.check_password(PASSWORD)


@pytest.mark.parametrize(
    "fields",
    [
        {"username": "ALICE", "email": "root@example.org"},
        {"username": "root", "email": "ALICE@example.org"},
        {"username": "bob@example.org", "email": "root@example.org"},
        {"username": "rооt", "email": "root@example.org"},
    ],
)
def test_createsuperuser_reports_what_is_wrong(alice: User, monkeypatch: pytest.MonkeyPatch, fields: dict[str, str]):
    with pytest.raises((CommandError, ValidationError)):
        superuser(monkeypatch, **fields)
    assert User.objects.get() == alice


def test_a_session_is_started_for_the_user_alone(alice: User, bob: User):
    session = LoginSession.objects.start(alice, "x" * 300, None)
    assert list(alice.sessions.live()) == [session]
    assert not bob.sessions.exists()
    assert (str(session), len(session.user_agent), len(session.token_id)) == (f"session {session.pk}", 200, 32)


def test_revoking_counts_only_what_was_live(alice: User):
    LoginSession.objects.start(alice, "", None)
    assert [alice.sessions.all().revoke() for _ in range(2)] == [1, 0]
    assert not alice.sessions.live().exists()


class CheaperHasher(Argon2idHasher):
    memory_cost = 8  # KiB


def test_rehashing_a_password_ends_no_session(alice: User, configured_hashers: None):
    """When the parameters have grown, the next login hashes the same password with the new ones."""
    alice.password = CheaperHasher().encode(PASSWORD, "saltsaltsalt")
    alice.save(update_fields=["password"])
    session = LoginSession.objects.start(alice, "", None)
    assert alice.check_password(PASSWORD)
    assert "m=19456" in User.objects.get().password
    assert session in LoginSession.objects.live()


@pytest.mark.parametrize("credentials", [{}, {"username": "alice"}, {"username": "", "password": PASSWORD}])
def test_authentication_fails_without_name_or_password(alice: User, credentials: dict[str, str]):
    assert authenticate(RequestFactory().post("/"), **credentials) is None
    assert not Attempts.objects.exists()


def test_authentication_fails_without_a_request(alice: User):
    """Without a request there is no address to count failures by."""
    assert authenticate(None, username="alice", password=PASSWORD) is None


@pytest.mark.parametrize("kind", ["session", "token"])
@pytest.mark.parametrize("idle", [timedelta(0), timedelta(hours=71), timedelta(hours=73)], ids=str)
@pytest.mark.parametrize("revoked", [False, True])
@pytest.mark.parametrize("expired", [False, True])
@pytest.mark.parametrize("active", [True, False])
@pytest.mark.parametrize("owner", ["alice", "bob"])
def test_a_live_session_is_the_same_to_the_model_and_to_the_authentication_statement(
    alice: User, bob: User, revoked: bool, expired: bool, active: bool, owner: str, idle: timedelta, kind: str
):
    user = {"alice": alice, "bob": bob}[owner]
    if kind == "session":
        session = LoginSession.objects.start(alice, "", None)
    else:
        session = create_token(alice, name="Export", scope="read").session
    now = timezone.now()
    ends = now - timedelta(seconds=1) if expired else now + timedelta(minutes=1)
    LoginSession.objects.update(revoked_at=now if revoked else None, expires_at=ends, last_used_at=now - idle)
    models.QuerySet(User).filter(pk=alice.pk).update(is_active=active)  # not revoking, unlike the model's own
    by_model = list(LoginSession.objects.live().filter(user=user).values_list("pk", "user_id"))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT s.id, u.id {LIVE_SESSION_SQL}", [session.pk, user.pk, session.secret_hash])  # noqa: S608
        found = cursor.fetchall()
        for other in ("0" * 64, None if kind == "token" else session.token_id):  # another secret, or that of a login
            cursor.execute(f"SELECT {LIVE_SESSION_SQL}", [session.pk, user.pk, other])  # noqa: S608
            assert cursor.fetchall() == []
    live = not revoked and not expired and active and owner == "alice"
    live = live and (kind == "token" or idle < timedelta(hours=72))
    assert found == by_model
    assert found == ([(session.pk, alice.pk)] if live else [])
