"""Row locks of a login, held and awaited over two connections: their order, and what is checked after the wait."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg2
import pytest
from django.db import connection
from django.db.models.signals import post_save, pre_save
from django.test import RequestFactory
from django.utils import timezone
from psycopg2.errors import LockNotAvailable

from accounts.limits import LoginAttempt, attempts_key
from accounts.models import Attempts, LoginAddress, LoginSession, User
from healthcare.tests.waiting import Waiting

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def other() -> Iterator[Any]:
    """A second connection to the test database; it rolls back at the end."""
    parameters = connection.get_connection_params()
    parameters.pop("cursor_factory", None)
    opened = psycopg2.connect(**parameters)
    yield opened
    opened.close()


@pytest.fixture
def attempt(alice: User) -> LoginAttempt:
    """An attempt by alice, after which both of its rows exist."""
    return begin(alice)


def begin(user: User) -> LoginAttempt:
    return LoginAttempt.begin(RequestFactory().post("/"), user.username, user)


def lock_attempts(other: Any, key: str) -> bool:
    """Lock a row of attempts without waiting; whether that worked."""
    cursor = other.cursor()
    cursor.execute("SAVEPOINT before")
    try:
        cursor.execute("SELECT 1 FROM accounts_attempts WHERE key = %s FOR UPDATE NOWAIT", [key])
    except LockNotAvailable:
        cursor.execute("ROLLBACK TO SAVEPOINT before")
        return False
    return bool(cursor.rowcount == 1)


def test_an_attempt_that_waits_for_its_address_holds_no_lock_on_its_account(
    alice: User, attempt: LoginAttempt, other: Any
):
    assert lock_attempts(other, attempt.address_key)
    waiting = Waiting(lambda: begin(alice))
    assert lock_attempts(other, attempt.account_key)
    other.rollback()
    waiting.finish()
    assert sorted(Attempts.objects.values_list("count", flat=True)) == [2, 2, 2]


def test_an_attempt_that_waits_for_its_account_holds_the_locks_on_its_address_and_their_pair(
    alice: User, attempt: LoginAttempt, other: Any
):
    assert lock_attempts(other, attempt.account_key)
    waiting = Waiting(lambda: begin(alice))
    assert not lock_attempts(other, attempt.address_key)
    assert not lock_attempts(other, attempt.pair_key)
    other.rollback()
    waiting.finish()
    assert sorted(Attempts.objects.values_list("count", flat=True)) == [2, 2, 2]


def test_an_attempt_that_waits_for_the_pair_holds_the_lock_on_its_address_alone(
    alice: User, attempt: LoginAttempt, other: Any
):
    assert lock_attempts(other, attempt.pair_key)
    waiting = Waiting(lambda: begin(alice))
    assert not lock_attempts(other, attempt.address_key)
    assert lock_attempts(other, attempt.account_key)
    other.rollback()
    waiting.finish()


def test_a_success_that_waits_for_its_account_holds_the_locks_on_its_address_and_their_pair(
    attempt: LoginAttempt, other: Any
):
    assert lock_attempts(other, attempt.account_key)
    waiting = Waiting(attempt.succeed)
    assert not lock_attempts(other, attempt.address_key)
    assert not lock_attempts(other, attempt.pair_key)
    other.rollback()
    waiting.finish()


@pytest.mark.parametrize("commits", [True, False])
def test_a_success_that_waits_for_a_deletion_of_its_user_stores_no_address(
    alice: User, attempt: LoginAttempt, other: Any, commits: bool
):
    other.cursor().execute("DELETE FROM accounts_user WHERE id = %s", [alice.pk])
    waiting = Waiting(attempt.succeed)
    if commits:
        other.commit()
    else:
        other.rollback()
    waiting.finish()
    assert LoginAddress.objects.exists() is not commits


def test_a_success_that_waits_for_its_address_holds_no_other_lock(attempt: LoginAttempt, other: Any):
    expired = Attempts.objects.create(key=attempts_key("unknown", "x"), count=1, until=timezone.now() - timedelta(2))
    assert lock_attempts(other, attempt.address_key)
    waiting = Waiting(attempt.succeed)
    assert lock_attempts(other, attempt.account_key)
    assert lock_attempts(other, attempt.pair_key)
    assert lock_attempts(other, expired.key)
    other.rollback()
    waiting.finish()
    remaining = {(attempt.address_key, 0), (attempt.account_key, 0)}
    assert set(Attempts.objects.values_list("key", "count")) == remaining


def test_a_success_skips_expired_rows_that_are_locked(attempt: LoginAttempt, other: Any):
    expired = Attempts.objects.create(key=attempts_key("unknown", "x"), count=1, until=timezone.now() - timedelta(2))
    assert lock_attempts(other, expired.key)
    attempt.succeed()
    assert set(Attempts.objects.values_list("key", flat=True)) == {
        attempt.address_key, attempt.account_key, expired.key,
    }  # fmt: skip


def test_a_success_deletes_the_failures_where_the_addresss_row_is_gone(attempt: LoginAttempt):
    Attempts.objects.filter(key=attempt.address_key).delete()
    attempt.succeed()
    assert set(Attempts.objects.values_list("key", "count")) == {(attempt.account_key, 0)}


@pytest.mark.parametrize(
    ("change", "starts"),
    [
        ("UPDATE accounts_user SET password = 'another' WHERE id = %s", False),
        ("UPDATE accounts_user SET is_active = false WHERE id = %s", False),
        ("UPDATE accounts_user SET name = 'Alice Liddell' WHERE id = %s", True),
    ],
)
def test_a_session_starts_only_if_a_concurrent_change_left_the_password_and_the_user_active(
    alice: User, other: Any, change: str, starts: bool
):
    other.cursor().execute(change, [alice.pk])
    waiting = Waiting(lambda: LoginSession.objects.start_if_unchanged(alice, "tests", None))
    other.commit()
    session = waiting.finish()
    assert list(LoginSession.objects.all()) == ([session] if starts else [])


def test_a_password_change_waits_until_a_session_that_starts_is_committed(alice: User, other: Any):
    def set_password_elsewhere(**_: Any) -> None:
        cursor = other.cursor()
        cursor.execute("SET lock_timeout = '100ms'")
        with pytest.raises(LockNotAvailable):
            cursor.execute("UPDATE accounts_user SET password = 'another' WHERE id = %s", [alice.pk])
        other.rollback()

    post_save.connect(set_password_elsewhere, sender=LoginSession)
    try:
        assert LoginSession.objects.start_if_unchanged(alice, "tests", None)
    finally:
        post_save.disconnect(set_password_elsewhere, sender=LoginSession)


def test_a_session_after_a_password_check_is_the_one_that_the_orm_would_insert(alice: User):
    sent: list[tuple[Any, Any, Any]] = []

    def record(signal: Any, instance: LoginSession, **given: Any) -> None:
        sent.append((signal, instance.pk is None, given.get("created")))

    for signal in (pre_save, post_save):
        signal.connect(record, sender=LoginSession)
    try:
        started = LoginSession.objects.start(alice, "x" * 300, "203.0.113.7")
        by_signals, sent = sent, []
        checked = LoginSession.objects.start_if_unchanged(alice, "x" * 300, "203.0.113.7")
    finally:
        for signal in (pre_save, post_save):
            signal.disconnect(record, sender=LoginSession)
    assert checked is not None
    assert sent == by_signals == [(pre_save, True, None), (post_save, False, True)]
    stored = LoginSession.objects.get(pk=checked.pk)
    for field in LoginSession._meta.concrete_fields:
        assert getattr(checked, field.attname) == getattr(stored, field.attname), field.name
        if field.name not in {"id", "token_id", "created_at", "rotated_at", "last_used_at", "expires_at"}:
            assert getattr(started, field.attname) == getattr(stored, field.attname), field.name
    assert stored.expires_at - stored.last_used_at == started.expires_at - started.last_used_at
    assert (len(stored.token_id), stored.token_id != started.token_id) == (32, True)
    assert timedelta(0) <= stored.created_at - stored.last_used_at < timedelta(minutes=1)
