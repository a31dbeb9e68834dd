"""What the security log says of second factors; and that no log, table or answer holds a secret or a code."""

import hashlib
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from rest_framework.test import APIClient

from accounts.limits import user_key
from accounts.models import User
from accounts.second_factor.models import SecondFactor
from accounts.second_factor.tests.conftest import App, Clock
from conftest import PASSWORD, LoggedInClient

pytestmark = pytest.mark.django_db(transaction=True)

OTP, CONFIRM, LOGIN = "/api/auth/otp/", "/api/auth/otp/confirm/", "/api/auth/login/"
PROOF = {"current_password": PASSWORD}


def log_in(otp: str) -> Any:
    return APIClient().post(LOGIN, {"username": "alice", "password": PASSWORD, "otp": otp})


def take_events(caplog: pytest.LogCaptureFixture, user: User) -> list[str]:
    """The lines of the security log since the last call, all of which name this user's account."""
    records = [record for record in caplog.records if record.name == "healthcare.security"]
    fields: list[dict[str, Any]] = [vars(record)["fields"] for record in records]
    assert {one["account"] for one in fields} <= {user_key(user.pk)}
    found = [
        " ".join([record.getMessage(), *(f"{name}={one[name]}" for name in ("left", "reason") if name in one)])
        for record, one in zip(records, fields, strict=True)
    ]
    caplog.clear()
    return found


def test_each_event_leaves_a_line(
    as_alice: LoggedInClient, alice: User, clock: Clock, caplog: pytest.LogCaptureFixture
):
    app = App(clock, as_alice.post(OTP, PROOF).json()["secret"])
    as_alice.post(CONFIRM, {"otp": app.wrong_code()})
    assert take_events(caplog, alice) == ["second factor code wrong at enrolment"]
    codes = as_alice.post(CONFIRM, {"otp": app.code()}).json()["recovery_codes"]
    assert take_events(caplog, alice) == ["second factor enrolled"]
    assert log_in(app.wrong_code()).status_code == 401
    assert take_events(caplog, alice) == ["second factor code wrong", "login failed"]
    assert log_in("").status_code == 401
    assert take_events(caplog, alice) == []
    assert [log_in(codes[0]).status_code, log_in(codes[1]).status_code] == [200, 200]
    assert take_events(caplog, alice) == ["recovery code used left=9", "recovery code used left=8"]
    as_alice.delete(OTP, PROOF | {"otp": app.wrong_code()})
    assert take_events(caplog, alice) == ["second factor code wrong"]
    assert as_alice.delete(OTP, PROOF | {"otp": codes[2]}).status_code == 204
    assert take_events(caplog, alice) == ["recovery code used left=7", "second factor removed"]


def rows_as_text() -> str:
    """Every row of every table, as text."""
    with connection.cursor() as cursor:
        parts = []
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT "{table}"::text FROM "{table}"')  # noqa: S608  (names from the catalogue)
            parts += [row for (row,) in cursor.fetchall()]
    return "\n".join(parts)


def test_no_secret_and_no_code_is_logged_or_stored(
    as_alice: LoggedInClient, clock: Clock, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    begun = as_alice.post(OTP, PROOF).json()
    app = App(clock, begun["secret"])
    codes = as_alice.post(CONFIRM, {"otp": app.code()}).json()["recovery_codes"]
    clock.pass_step()
    answers = [log_in(app.code()), log_in(app.code()), log_in(codes[0]), log_in(codes[0]), log_in(codes[1][:-1])]
    answers += [as_alice.delete(OTP, PROOF | {"otp": otp}) for otp in (app.code(), codes[0])]
    assert [answer.status_code for answer in answers] == [200, 401, 200, 401, 401, 400, 400]
    plain = [code.replace("-", "") for code in codes]
    unsalted = [hashlib.sha256(code.encode()).hexdigest() for code in plain]
    secrets = [begun["secret"], begun["otpauth_uri"], app.secret.hex(), *codes, *plain, *unsalted]
    written = caplog.text + str([vars(record) for record in caplog.records]) + "".join(capfd.readouterr())
    texts = [written, rows_as_text(), *(answer.content.decode() for answer in answers[1::2])]
    for text in texts:
        assert not [secret for secret in secrets if secret.lower() in text.lower()]
    assert f"{app.code()} " not in written
    assert app.code() not in written


def test_a_secret_of_another_key_fails_closed_and_the_log_says_why(
    app: App, alice: User, settings: Any, caplog: pytest.LogCaptureFixture
):
    settings.OTP_KEY = bytes(range(64))
    caplog.clear()
    answer = log_in(app.code())
    assert (answer.status_code, answer.json()["code"]) == (401, "otp_required")
    assert take_events(caplog, alice) == [
        "second factor not decrypted by OTP_KEY or SECRET_KEY", "second factor code wrong", "login failed",
    ]  # fmt: skip
    assert log_in(app.recovery_codes[0]).status_code == 200
    assert take_events(caplog, alice) == ["recovery code used left=9"]
    client = LoggedInClient(alice)
    assert client.delete(OTP, PROOF | {"otp": app.code()}).status_code == 400
    assert client.delete(OTP, PROOF | {"otp": app.recovery_codes[1]}).status_code == 204


def test_recovery_codes_work_with_another_secret_key(app: App, settings: Any):
    settings.SECRET_KEY = "another key of the server, which has lost the earlier one"
    assert log_in(app.recovery_codes[0]).status_code == 200


def test_a_damaged_secret_is_no_error(app: App, alice: User):
    for damaged in (b"", b"short", bytes(36)):
        SecondFactor.objects.filter(pk=alice.pk).update(encrypted_secret=damaged)
        assert log_in(app.code()).json()["code"] == "otp_required"


def test_the_command_says_who_removed_it_and_why(app: App, alice: User, caplog: pytest.LogCaptureFixture):
    caplog.clear()
    call_command("reset_otp", "alice", reason="Request 17", stdout=StringIO())
    [record] = [record for record in caplog.records if record.name == "healthcare.security"]
    assert record.getMessage() == "second factor removed"
    fields = vars(record)["fields"]
    assert set(fields) == {"account", "by", "reason"}
    assert (fields["account"], fields["reason"]) == (user_key(alice.pk), "Request 17")
