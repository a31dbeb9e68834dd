"""POST and DELETE /api/auth/otp/, and POST /api/auth/otp/confirm/."""

import base64
import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from rest_framework.test import APIClient

from accounts.identity import prove_identity_with_factor
from accounts.limits import SessionAttempt
from accounts.models import LoginSession, User
from accounts.second_factor.models import RecoveryCode, SecondFactor
from accounts.second_factor.tests.conftest import App, Clock
from accounts.tests.answers import refusals
from conftest import PASSWORD, LoggedInClient
from healthcare.api.models import IdempotencyRecord

pytestmark = pytest.mark.django_db(transaction=True)

OTP, CONFIRM, LOGIN = "/api/auth/otp/", "/api/auth/otp/confirm/", "/api/auth/login/"
PROOF = {"current_password": PASSWORD}
WRONG_CODE = {("/otp", "otp_required")}


def begin(client: APIClient, clock: Clock) -> App:
    answer = client.post(OTP, PROOF)
    assert answer.status_code == 201
    return App(clock, answer.json()["secret"])


def log_in(otp: str = "") -> int:
    return APIClient().post(LOGIN, {"username": "alice", "password": PASSWORD, "otp": otp}).status_code


def conflict(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def test_from_the_secret_to_the_login(as_alice: LoggedInClient, clock: Clock):
    answer = as_alice.post(OTP, PROOF)
    assert (answer.status_code, set(answer.json())) == (201, {"secret", "otpauth_uri"})
    assert (answer["Location"], answer["Cache-Control"]) == (OTP, "no-store")
    app = App(clock, answer.json()["secret"])
    assert len(app.secret) == 20
    assert log_in() == 200  # it is not confirmed yet
    confirmed = as_alice.post(CONFIRM, {"otp": app.code()})
    assert (confirmed.status_code, set(confirmed.json())) == (200, {"recovery_codes"})
    codes = confirmed.json()["recovery_codes"]
    assert len(set(codes)) == 10
    assert all(re.fullmatch("[A-Z2-7]{4}(-[A-Z2-7]{4}){3}", code) for code in codes)
    assert log_in() == 401
    clock.pass_step()
    assert (log_in(app.code()), log_in(codes[0])) == (200, 200)


def test_the_uri_holds_what_an_app_needs(make_user: Any, clock: Clock):
    client = LoggedInClient(make_user("x@y.example", email="x@y.example"))
    answer = client.post(OTP, PROOF).json()
    uri = urlsplit(answer["otpauth_uri"])
    assert (uri.scheme, uri.netloc, unquote(uri.path)) == ("otpauth", "totp", "/Healthcare:x@y.example")
    fixed = {"issuer": ["Healthcare"], "algorithm": ["SHA1"], "digits": ["6"], "period": ["30"]}
    assert parse_qs(uri.query) == {"secret": [answer["secret"]]} | fixed


def test_asked_again_before_the_confirmation_there_is_another_secret(as_alice: LoggedInClient, clock: Clock):
    first, second = begin(as_alice, clock), begin(as_alice, clock)
    assert first.secret != second.secret
    assert refusals(as_alice.post(CONFIRM, {"otp": first.code()})) == {("/otp", "invalid")}
    assert as_alice.post(CONFIRM, {"otp": second.code()}).status_code == 200


def test_a_confirmed_factor_is_neither_replaced_nor_confirmed_again(app: App, as_alice: LoggedInClient):
    before = SecondFactor.objects.values().get()
    assert conflict(as_alice.post(OTP, PROOF)) == (409, "otp_enrolled")
    assert conflict(as_alice.post(CONFIRM, {"otp": app.code()})) == (409, "otp_enrolled")
    assert SecondFactor.objects.values().get() == before


def test_what_was_not_begun_cannot_be_confirmed(as_alice: LoggedInClient):
    assert conflict(as_alice.post(CONFIRM, {"otp": "123456"})) == (409, "otp_not_enrolled")
    assert as_alice.delete(OTP, PROOF).status_code == 404


def test_wrong_codes_at_the_confirmation_have_to_wait(as_alice: LoggedInClient, clock: Clock):
    app = begin(as_alice, clock)
    answers = [as_alice.post(CONFIRM, {"otp": app.wrong_code()}).status_code for _ in range(11)]
    assert answers == [400] * 10 + [429]
    assert as_alice.post(CONFIRM, {"otp": app.code()}).status_code == 429
    assert LoggedInClient(User.objects.get()).post(CONFIRM, {"otp": app.code()}).status_code == 200  # another session


def test_the_password_is_proven_first(as_alice: LoggedInClient, app: App):
    for call in (as_alice.post, as_alice.delete):
        assert refusals(call(OTP, {})) == {("/current_password", "required")}
        assert refusals(call(OTP, {"current_password": "wrong"})) == {("/current_password", "invalid")}
    answer = as_alice.delete(OTP, {"current_password": "wrong", "otp": app.code()})
    assert refusals(answer) == {("/current_password", "invalid")}
    assert log_in(app.code()) == 200  # the code beside a wrong password is not used up


def test_a_factor_is_removed_by_password_and_code(as_alice: LoggedInClient, app: App):
    assert refusals(as_alice.delete(OTP, PROOF)) == WRONG_CODE
    assert refusals(as_alice.delete(OTP, PROOF | {"otp": app.wrong_code()})) == WRONG_CODE
    assert SecondFactor.objects.exists()
    answer = as_alice.delete(OTP, PROOF | {"otp": app.code()})
    assert (answer.status_code, answer.content) == (204, b"")
    assert not SecondFactor.objects.exists()
    assert not RecoveryCode.objects.exists()
    assert log_in() == 200


def test_a_factor_is_removed_by_a_recovery_code_and_set_up_anew(as_alice: LoggedInClient, app: App, clock: Clock):
    assert as_alice.delete(OTP, PROOF | {"otp": app.recovery_codes[0].lower()}).status_code == 204
    again = begin(as_alice, clock)
    assert as_alice.post(CONFIRM, {"otp": again.code()}).status_code == 200
    assert log_in(app.recovery_codes[1]) == 401


def test_an_unconfirmed_factor_is_removed_by_the_password(as_alice: LoggedInClient, clock: Clock):
    begin(as_alice, clock)
    assert as_alice.delete(OTP, PROOF).status_code == 204
    assert not SecondFactor.objects.exists()


def test_wrong_codes_of_a_proof_have_to_wait_and_a_missing_one_changes_no_count(as_alice: LoggedInClient, app: App):
    answers = [as_alice.delete(OTP, PROOF | {"otp": app.wrong_code()}).status_code for _ in range(9)]
    answers += [as_alice.delete(OTP, PROOF).status_code for _ in range(3)]
    answers += [as_alice.delete(OTP, PROOF | {"otp": app.wrong_code()}).status_code for _ in range(2)]
    assert answers == [400] * 9 + [400] * 3 + [400, 429]
    assert as_alice.delete(OTP, PROOF | {"otp": app.code()}).status_code == 429


@pytest.mark.parametrize("right_password", [OTP, "/api/auth/password/"])
def test_a_right_password_clears_no_count_of_wrong_codes(as_alice: LoggedInClient, app: App, right_password: str):
    """Who has stolen a session and knows the password would otherwise guess codes without end."""
    body = PROOF | ({"new_password": PASSWORD, "keep_tokens": True} if right_password != OTP else {})
    for _ in range(10):
        assert refusals(as_alice.delete(OTP, PROOF | {"otp": app.wrong_code()})) == WRONG_CODE
        assert as_alice.post(right_password, body).status_code in {204, 409}
    assert as_alice.delete(OTP, PROOF | {"otp": app.code()}).status_code == 429


def test_wrong_codes_of_all_sessions_and_of_logins_count_together(as_alice: LoggedInClient, app: App, alice: User):
    other = LoggedInClient(alice)
    codes = {"otp": app.wrong_code()}
    for _ in range(3):
        assert refusals(as_alice.delete(OTP, PROOF | codes)) == WRONG_CODE
        assert refusals(other.delete("/api/auth/me/", PROOF | codes)) == WRONG_CODE
        assert log_in(app.wrong_code()) == 401
    assert refusals(other.delete(OTP, PROOF | codes)) == WRONG_CODE
    assert [as_alice.delete(OTP, PROOF | {"otp": app.code()}).status_code, log_in(app.code())] == [429, 429]
    assert refusals(as_alice.delete(OTP, PROOF)) == WRONG_CODE  # no code, so nothing is guessed


def test_a_right_code_clears_the_count_of_wrong_ones(as_alice: LoggedInClient, app: App, clock: Clock):
    for _ in range(2):
        for _ in range(9):
            assert refusals(as_alice.delete(OTP, PROOF | {"otp": app.wrong_code()})) == WRONG_CODE
        body = PROOF | {"otp": app.code(), "name": "Export", "scope": "read"}
        assert as_alice.post("/api/auth/tokens/", body).status_code == 201
        clock.pass_step()


def test_a_code_of_a_user_without_a_second_factor_counts_nowhere(as_alice: LoggedInClient):
    body = PROOF | {"otp": "123456", "name": "Export", "scope": "read"}
    for _ in range(11):
        assert as_alice.post("/api/auth/tokens/", body).status_code == 201
    assert log_in() == 200


def test_a_code_that_proved_an_identity_is_used_up(alice: User, app: App, rf: Any):
    request = rf.delete(OTP)
    request.user, request.auth = alice, LoginSession.objects.start(alice, "tests", None)
    prove_identity_with_factor(request, PASSWORD, app.code())
    assert log_in(app.code()) == 401
    assert log_in(app.recovery_codes[0]) == 200


@pytest.mark.parametrize("path", [OTP, CONFIRM])
def test_an_idempotency_key_is_refused_and_nothing_stored(as_alice: LoggedInClient, clock: Clock, path: str):
    app = begin(as_alice, clock)
    answer = as_alice.post(path, PROOF if path == OTP else {"otp": app.code()}, HTTP_IDEMPOTENCY_KEY="one")
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("Send this without Idempotency-Key")
    assert not IdempotencyRecord.objects.exists()
    assert SecondFactor.objects.get().confirmed_at is None


def test_who_got_another_password_meanwhile_changes_no_factor(as_alice: LoggedInClient, alice: User, monkeypatch: Any):
    def change_password(*_: Any) -> None:
        User.objects.filter(pk=alice.pk).update(password="!other")

    monkeypatch.setattr("accounts.second_factor.views.prove_identity", change_password)
    answer = as_alice.post(OTP, PROOF)
    assert (answer.status_code, answer.json()["detail"]) == (401, "The session has ended; log in again.")
    assert not SecondFactor.objects.exists()


def test_who_got_another_password_meanwhile_removes_no_factor(
    as_alice: LoggedInClient, alice: User, app: App, monkeypatch: pytest.MonkeyPatch
):
    def change_password(*_: Any) -> None:
        User.objects.filter(pk=alice.pk).update(password="!other")

    monkeypatch.setattr("accounts.second_factor.views.prove_identity_with_factor", change_password)
    answer = as_alice.delete(OTP, PROOF | {"otp": app.code()})
    assert (answer.status_code, answer.json()["detail"]) == (401, "The session has ended; log in again.")
    assert SecondFactor.objects.confirmed().exists()


def test_who_got_another_password_meanwhile_confirms_no_factor(
    as_alice: LoggedInClient, alice: User, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    app, begin_attempt = begin(as_alice, clock), SessionAttempt.begin

    def change_password(*attempt: Any) -> SessionAttempt:
        User.objects.filter(pk=alice.pk).update(password="!other")
        return begin_attempt(*attempt)

    monkeypatch.setattr(SessionAttempt, "begin", change_password)
    answer = as_alice.post(CONFIRM, {"otp": app.code()})
    assert (answer.status_code, answer.json()["detail"]) == (401, "The session has ended; log in again.")
    assert not RecoveryCode.objects.exists()


def test_nothing_readable_is_stored(as_alice: LoggedInClient, app: App):
    factor = SecondFactor.objects.get()
    stored = bytes(factor.encrypted_secret)
    assert app.secret not in stored
    assert base64.b32encode(app.secret) not in stored
    digests = {*RecoveryCode.objects.values_list("digest", flat=True)}
    assert len(digests) == 10
    assert not digests & {code.replace("-", "") for code in app.recovery_codes}
