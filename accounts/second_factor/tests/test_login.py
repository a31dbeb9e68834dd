"""A login of a user with a second factor."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.limits import LoginAttempt, account_key, attempts_key, pair_key
from accounts.models import Attempts, LoginSession, User
from accounts.second_factor import codes
from accounts.second_factor.models import RecoveryCode, SecondFactor
from accounts.second_factor.rules import begin_factor
from accounts.second_factor.tests.conftest import App, Clock
from accounts.tests.test_login import CLEAR_FAILURES, COUNT_ATTEMPT, FIND_USER, START_SESSION, names_of_statements
from conftest import PASSWORD

pytestmark = pytest.mark.django_db(transaction=True)

LOGIN = "/api/auth/login/"
FIND_STEP = "accounts.second_factor.rules.find_step"
CREDENTIALS = {"username": "alice", "password": PASSWORD}
REQUIRED = {
    "type": "about:blank",
    "title": "Unauthorized",
    "status": 401,
    "detail": "Send as `otp` the code that your authenticator app shows now, or one of your recovery codes.",
    "code": "otp_required",
}


def log_in(client: APIClient, otp: Any = None, password: str = PASSWORD) -> Any:
    return client.post(LOGIN, CREDENTIALS | {"password": password} | ({} if otp is None else {"otp": otp}))


def is_refused(answer: Any) -> bool:
    """Whether a login was answered that a code is required, and nothing else."""
    body = answer.json()
    assert body.pop("request_id") == answer["X-Request-Id"]
    assert body == REQUIRED
    assert answer["WWW-Authenticate"] == 'Bearer realm="api"'
    return bool(answer.status_code == 401)


def test_a_login_without_a_code_is_answered_that_one_is_required(app: App, anonymous: APIClient):
    for otp in ("", "  ", " - "):
        assert is_refused(log_in(anonymous, otp))
    assert is_refused(anonymous.post(LOGIN, CREDENTIALS))
    assert is_refused(anonymous.post(LOGIN, CREDENTIALS | {"otp": None}))
    assert not LoginSession.objects.exists()


def test_a_code_of_this_step_or_a_neighbour_logs_in(app: App, clock: Clock, anonymous: APIClient):
    for steps in (-1, 0, 1):
        clock.pass_step()
        clock.pass_step()
        answer = log_in(anonymous, app.code(steps))
        assert (answer.status_code, set(answer.json())) == (200, {"access", "refresh"})


def test_a_code_two_steps_away_does_not(app: App, clock: Clock, anonymous: APIClient):
    clock.pass_step()
    clock.pass_step()
    for steps in (-2, 2):
        assert is_refused(log_in(anonymous, app.code(steps)))


def test_a_code_works_once_and_none_of_an_earlier_step_after_it(app: App, clock: Clock, anonymous: APIClient):
    clock.pass_step()
    assert log_in(anonymous, app.code()).status_code == 200
    assert is_refused(log_in(anonymous, app.code()))
    assert is_refused(log_in(anonymous, app.code(-1)))
    assert log_in(anonymous, app.code(1)).status_code == 200


def test_the_code_that_confirmed_the_factor_is_used_up(app: App, anonymous: APIClient):
    assert is_refused(log_in(anonymous, app.code(-1)))


def test_a_recovery_code_works_once(app: App, anonymous: APIClient):
    assert log_in(anonymous, app.recovery_codes[0]).status_code == 200
    assert is_refused(log_in(anonymous, app.recovery_codes[0]))
    assert log_in(anonymous, app.recovery_codes[1]).status_code == 200
    assert RecoveryCode.objects.count() == 8


def test_codes_are_compared_without_spaces_dashes_and_case(app: App, clock: Clock, anonymous: APIClient):
    first, second, third, *_ = app.recovery_codes
    for otp in (first.lower(), second.replace("-", ""), f" {third.replace('-', ' ')}\t"):
        assert log_in(anonymous, otp).status_code == 200
    code = app.code()
    assert log_in(anonymous, f"{code[:3]} {code[3:]}").status_code == 200


def test_a_recovery_code_of_another_user_does_not_work(app: App, anonymous: APIClient, enrol: Any, bob: User):
    assert is_refused(log_in(anonymous, enrol(bob).recovery_codes[0]))
    assert RecoveryCode.objects.count() == 20


def test_who_has_no_second_factor_or_none_confirmed_needs_no_code(alice: User, anonymous: APIClient):
    assert log_in(anonymous).status_code == 200
    begin_factor(alice)
    assert log_in(anonymous).status_code == 200
    assert log_in(anonymous, "123456").status_code == 200


def test_a_factor_that_is_confirmed_during_a_login_is_asked_for(
    alice: User, anonymous: APIClient, enrol: Any, monkeypatch: pytest.MonkeyPatch
):
    """The login has read that there is none; the statement that starts the session looks once more."""

    def succeed(attempt: LoginAttempt) -> None:
        enrol(alice)

    monkeypatch.setattr(LoginAttempt, "succeed", succeed)
    assert log_in(anonymous).status_code == 401
    monkeypatch.undo()
    assert not LoginSession.objects.exists()
    assert is_refused(log_in(anonymous))


def test_a_factor_that_is_removed_during_a_login_takes_no_code(
    app: App, alice: User, anonymous: APIClient, monkeypatch: pytest.MonkeyPatch
):
    def find_step(*checked: Any) -> int | None:
        SecondFactor.objects.filter(pk=alice.pk).delete()
        return codes.find_step(*checked)

    monkeypatch.setattr(FIND_STEP, find_step)
    assert is_refused(log_in(anonymous, app.code()))
    assert log_in(anonymous).status_code == 200


def counts(user: User) -> tuple[int, int, int]:
    """The failures that are counted for the account from this address, the account, and the address."""
    account = account_key("", user)
    keys = [pair_key("127.0.0.1", account), account, attempts_key("address", "127.0.0.1")]
    found = dict(Attempts.objects.values_list("key", "count"))
    first, second, third = (found.get(key, 0) for key in keys)
    return first, second, third


def statements(client: APIClient, otp: str) -> list[str]:
    with CaptureQueriesContext(connection) as queries:
        log_in(client, otp)
    return names_of_statements(queries)


def test_a_login_with_a_code_has_these_queries(app: App, anonymous: APIClient):
    check = [FIND_USER, "BEGIN", COUNT_ATTEMPT, "COMMIT"]
    start = [CLEAR_FAILURES, "BEGIN", START_SESSION, "COMMIT"]
    use_code = ['UPDATE "accounts_sec']
    use_recovery_code = ["BEGIN", 'DELETE FROM "account', "COMMIT", 'SELECT COUNT(*) AS "']
    assert statements(anonymous, app.code()) == check + use_code + start
    assert statements(anonymous, app.recovery_codes[0]) == check + use_recovery_code + start
    assert statements(anonymous, app.wrong_code()) == check
    take_back = ["BEGIN", "\nUPDATE accounts_att", "COMMIT"]
    assert statements(anonymous, "") == check + take_back  # from a known address, in one row


def test_a_wrong_code_counts_as_a_wrong_password_does(app: App, alice: User, anonymous: APIClient):
    assert log_in(anonymous, password="wrong").json()["detail"] == "The username or the password is wrong."
    assert counts(alice) == (1, 1, 1)
    assert is_refused(log_in(anonymous, app.wrong_code()))
    assert counts(alice) == (2, 2, 2)


def test_a_missing_code_neither_counts_nor_clears_the_count(app: App, alice: User, anonymous: APIClient):
    for _ in range(2):
        log_in(anonymous, app.wrong_code())
    for _ in range(12):
        assert is_refused(log_in(anonymous))
    assert counts(alice) == (2, 2, 2)


def test_a_login_that_succeeds_whole_clears_the_count(app: App, alice: User, anonymous: APIClient):
    log_in(anonymous, app.wrong_code())
    assert log_in(anonymous, app.code()).status_code == 200
    assert counts(alice) == (0, 1, 1)


def test_wrong_codes_have_to_wait_as_wrong_passwords_do(app: App, anonymous: APIClient):
    answers = [log_in(anonymous, app.wrong_code()).status_code for _ in range(11)]
    assert answers == [401] * 10 + [429]
    assert log_in(anonymous, app.code()).status_code == 429


def test_a_missing_code_does_not_make_the_next_login_wait(app: App, alice: User, anonymous: APIClient):
    for _ in range(9):
        log_in(anonymous, app.wrong_code())
    assert is_refused(log_in(anonymous))  # counts to ten, and is taken back with the wait that it began
    assert log_in(anonymous, app.code()).status_code == 200


def test_an_attempt_that_is_taken_back_from_a_known_address_counts_in_one_row(app: App, alice: User, rf: Any):
    request = rf.post(LOGIN, REMOTE_ADDR="127.0.0.1")
    LoginAttempt.begin(request, "alice", alice).succeed()
    before = counts(alice)
    attempt = LoginAttempt.begin(request, "alice", alice)
    assert attempt.is_known
    attempt.take_back()
    assert counts(alice) == before


def test_a_code_that_is_used_between_its_check_and_its_use_is_refused(
    app: App, anonymous: APIClient, monkeypatch: pytest.MonkeyPatch
):
    def find_step(*checked: Any) -> int | None:
        monkeypatch.setattr(FIND_STEP, codes.find_step)
        step = codes.find_step(*checked)
        assert log_in(APIClient(), app.code()).status_code == 200
        return step

    monkeypatch.setattr(FIND_STEP, find_step)
    assert is_refused(log_in(anonymous, app.code()))
    assert LoginSession.objects.count() == 1


def test_a_code_of_a_secret_that_was_replaced_meanwhile_does_not_work(
    app: App, alice: User, anonymous: APIClient, enrol: Any, bob: User, monkeypatch: pytest.MonkeyPatch
):
    enrol(bob)
    other = SecondFactor.objects.get(pk=bob.pk)

    def find_step(*_: Any) -> int:
        SecondFactor.objects.filter(pk=alice.pk).update(encrypted_secret=other.encrypted_secret, last_step=None)
        return 1

    monkeypatch.setattr(FIND_STEP, find_step)
    assert is_refused(log_in(anonymous, app.code()))


def test_the_secret_of_another_user_cannot_be_put_in(
    app: App, alice: User, anonymous: APIClient, enrol: Any, bob: User
):
    other = enrol(bob)
    stolen = SecondFactor.objects.get(pk=bob.pk).encrypted_secret
    SecondFactor.objects.filter(pk=alice.pk).update(encrypted_secret=stolen)
    assert is_refused(log_in(anonymous, other.code()))
