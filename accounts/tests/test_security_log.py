"""The log of failed logins: which account, as a keyed hash, and which address; never what was typed."""

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.limits import REGISTRATIONS_PER_HOUR, account_key, attempts_key, pair_key
from accounts.models import Attempts, User
from conftest import PASSWORD, LoggedInClient
from healthcare.operations.logs import SafeFormatter

pytestmark = pytest.mark.django_db(transaction=True)

LOGIN = "/api/auth/login/"
TYPED = "Typed-by-mistake-7"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    """Returns the lines of the security log since the last call, and checks that they hold nothing that was typed."""

    def read() -> list[str]:
        records = [record for record in caplog.records if record.name == "healthcare.security"]
        found = [SafeFormatter().format(record).partition("healthcare.security ")[2] for record in records]
        assert all(record.levelname == "WARNING" for record in caplog.records if record.name == "healthcare.security")
        for secret in (TYPED, TYPED.lower(), PASSWORD, "alice"):
            assert secret not in caplog.text
        caplog.clear()
        return found

    return read


def fail(client: APIClient, username: str, **request: Any) -> Any:
    return client.post(LOGIN, {"username": username, "password": TYPED}, **request)


def test_a_failed_login_leaves_a_line_with_account_address_and_request(alice: User, anonymous: APIClient, lines: Any):
    answer = fail(anonymous, "Alice@example.org", REMOTE_ADDR="2001:db8::7")
    account = attempts_key("account", str(alice.pk))
    request_id = answer["X-Request-Id"]
    assert lines() == [f"login failed account={account} address=2001:db8::7 request_id={request_id}"]
    assert Attempts.objects.filter(key=account).exists()  # by which the admin's search finds it


def test_an_unknown_or_inactive_account_leaves_the_same_line(make_user: Any, anonymous: APIClient, lines: Any):
    gone = make_user("gone", is_active=False)
    for username, key in ((TYPED, account_key(TYPED, None)), ("gone", account_key("gone", gone))):
        answer = anonymous.post(LOGIN, {"username": username, "password": PASSWORD})
        assert lines() == [f"login failed account={key} address=127.0.0.1 request_id={answer['X-Request-Id']}"]


def test_a_success_leaves_no_line(alice: User, anonymous: APIClient, lines: Any):
    assert anonymous.post(LOGIN, {"username": "alice", "password": PASSWORD}).status_code == 200
    assert lines() == []


def test_a_back_off_leaves_a_line_with_the_seconds_to_wait(alice: User, anonymous: APIClient, lines: Any):
    account = attempts_key("account", str(alice.pk))
    Attempts.objects.create(key=pair_key("127.0.0.1", account), count=30, until=timezone.now())
    assert [fail(anonymous, "alice").status_code, (answer := fail(anonymous, "alice")).status_code] == [401, 429]
    assert lines()[1:] == [
        f"login refused during a back-off account={account} wait={answer['Retry-After']} address=127.0.0.1 "
        f"request_id={answer['X-Request-Id']}"
    ]


def test_the_admins_failed_logins_leave_a_line(staff: User, lines: Any):
    Client().post("/admin/login/", {"username": "staff", "password": TYPED}, REMOTE_ADDR="203.0.113.7")
    [line] = lines()
    assert line.startswith(f"login failed account={account_key('staff', staff)} address=203.0.113.7 request_id=")


def test_a_wrong_current_password_leaves_a_line(as_alice: LoggedInClient, alice: User, lines: Any):
    body = {"current_password": TYPED, "new_password": "Kf7-twelve"}
    key = attempts_key("session", str(as_alice.login_session.pk))
    Attempts.objects.create(key=key, count=30, until=timezone.now())
    first, second = (as_alice.post("/api/auth/password/", body) for _ in range(2))
    account = account_key("alice", alice)
    assert lines() == [
        f"current password wrong account={account} address=127.0.0.1 request_id={first['X-Request-Id']}",
        f"current password refused during a back-off account={account} wait={second['Retry-After']} "
        f"address=127.0.0.1 request_id={second['X-Request-Id']}",
    ]


def test_refused_registrations_leave_a_line(anonymous: APIClient, lines: Any):
    body = {"name": "New", "email": "new@example.org", "username": "new", "password": PASSWORD}
    assert anonymous.post("/api/auth/register/", body).status_code == 201
    Attempts.objects.update(count=REGISTRATIONS_PER_HOUR)
    answer = anonymous.post("/api/auth/register/", body | {"username": "new2", "email": "new2@example.org"})
    assert answer.status_code == 429
    [line] = lines()
    assert line.startswith(f"registration refused wait={answer['Retry-After']} address=127.0.0.1 request_id=")


@pytest.mark.parametrize("forwarded", ["203.0.113.7\nlogin failed account=forged", "<script>", ""])
def test_what_is_no_address_is_not_logged(alice: User, anonymous: APIClient, lines: Any, settings: Any, forwarded: str):
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": 1}
    fail(anonymous, "alice", HTTP_X_FORWARDED_FOR=forwarded)
    [line] = lines()
    assert " address=127.0.0.1 " in line
