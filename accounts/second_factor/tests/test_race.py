"""Codes that two requests send at once, over real connections: each is accepted once."""

import base64
import time
from functools import partial
from typing import Any

import psycopg2
from django_otp.oath import hotp

from conftest import PASSWORD
from healthcare.tests.concurrent_calls import call_concurrently, sorted_statuses
from healthcare.tests.live import Answer, LiveServer

OTP, CONFIRM, LOGIN = "/api/auth/otp/", "/api/auth/otp/confirm/", "/api/auth/login/"
PROOF = {"current_password": PASSWORD}


def code_of(secret: str) -> str:
    return f"{hotp(base64.b32decode(secret), int(time.time()) // 30):06}"


class Enrolled:
    """A user of the live server with a second factor."""

    def __init__(self, live: LiveServer) -> None:
        self.live = live
        self.user, tokens = live.register()
        self.token = tokens["access"]
        self.secret = live.call("POST", OTP, PROOF, self.token).json["secret"]
        confirmed = live.call("POST", CONFIRM, {"otp": code_of(self.secret)}, self.token)
        self.recovery_codes: list[str] = confirmed.json["recovery_codes"]

    def log_in(self, otp: str) -> partial[Answer]:
        body = {"username": self.user["username"], "password": PASSWORD, "otp": otp}
        return partial(self.live.call, "POST", LOGIN, body)

    def forget_used_codes(self) -> None:
        """Accept the code of this step again, so that a test need not wait for the next one."""
        self.execute("UPDATE accounts_secondfactor SET last_step = NULL WHERE user_id = %s")
        self.execute("DELETE FROM accounts_attempts WHERE %s > 0")

    def execute(self, statement: str) -> None:
        with psycopg2.connect(self.live.database_url) as connection, connection.cursor() as cursor:
            cursor.execute(statement, [self.user["id"]])
        connection.close()


def test_of_four_logins_with_one_code_one_succeeds(live: LiveServer):
    alice = Enrolled(live)
    for _ in range(8):
        alice.forget_used_codes()
        answers = call_concurrently(*[alice.log_in(code_of(alice.secret))] * 4)
        assert sorted_statuses(answers) == [200, 401, 401, 401]


def test_of_two_logins_with_one_recovery_code_one_succeeds(live: LiveServer):
    alice = Enrolled(live)
    for code in alice.recovery_codes:
        assert sorted_statuses(call_concurrently(*[alice.log_in(code)] * 2)) == [200, 401]
        alice.forget_used_codes()


def test_a_code_does_not_log_in_and_prove_an_identity(live: LiveServer):
    alice = Enrolled(live)
    for _ in range(4):
        alice.forget_used_codes()
        code = code_of(alice.secret)
        body = {"name": "Export", "scope": "read", "current_password": PASSWORD, "otp": code}
        proof = partial(live.call, "POST", "/api/auth/tokens/", body, alice.token)
        login, token = call_concurrently(alice.log_in(code), proof)
        assert (login.status, token.status) in {(200, 400), (401, 201)}


def test_of_two_confirmations_one_succeeds_and_its_recovery_codes_work(live: LiveServer):
    user, tokens = live.register()
    for _ in range(4):
        secret = live.call("POST", OTP, PROOF, tokens["access"]).json["secret"]
        confirm: Any = partial(live.call, "POST", CONFIRM, {"otp": code_of(secret)}, tokens["access"])
        answers = sorted(call_concurrently(confirm, confirm), key=lambda answer: answer.status)
        assert [answer.status for answer in answers] == [200, 409]
        assert answers[1].json["code"] == "otp_enrolled"
        first, second, *_ = answers[0].json["recovery_codes"]
        body = {"username": user["username"], "password": PASSWORD, "otp": first}
        assert live.call("POST", LOGIN, body).status == 200
        removal = PROOF | {"otp": second}
        assert live.call("DELETE", OTP, removal, tokens["access"]).status == 204


def test_a_confirmation_is_of_the_secret_that_was_shown_last(live: LiveServer):
    """While another request replaces the secret, a code of the first confirms nothing but that one."""
    _, tokens = live.register()
    for _ in range(6):
        secret = live.call("POST", OTP, PROOF, tokens["access"]).json["secret"]
        confirmed, replaced = call_concurrently(
            partial(live.call, "POST", CONFIRM, {"otp": code_of(secret)}, tokens["access"]),
            partial(live.call, "POST", OTP, PROOF, tokens["access"]),
        )
        assert (confirmed.status, replaced.status) in {(200, 409), (400, 201)}
        if confirmed.status == 200:
            removal = PROOF | {"otp": confirmed.json["recovery_codes"][0]}
            assert live.call("DELETE", OTP, removal, tokens["access"]).status == 204
