"""One code for several uses at the same time, over real connections: one wins."""

import base64
import time
from functools import partial

import pytest
from django_otp.oath import hotp

from conftest import PASSWORD
from healthcare.tests.concurrent_calls import call_concurrently, sorted_statuses
from healthcare.tests.live import LiveServer

OTP, CONFIRM, LOGIN, TOKENS = "/api/auth/otp/", "/api/auth/otp/confirm/", "/api/auth/login/", "/api/auth/tokens/"
PROOF = {"current_password": PASSWORD}


def code_of(secret: str, steps: int = 0) -> str:
    return f"{hotp(base64.b32decode(secret), int(time.time() // 30) + steps):06}"


@pytest.mark.parametrize("kind", ["a code of the app", "a recovery code"])
def test_of_concurrent_uses_of_one_code_one_succeeds(live: LiveServer, kind: str):
    user, tokens = live.register()
    access = tokens["access"]
    secret = live.call("POST", OTP, PROOF, access).json["secret"]
    confirmation = {"otp": code_of(secret)}
    confirmations = call_concurrently(*[partial(live.call, "POST", CONFIRM, confirmation, access)] * 4)
    assert sorted_statuses(confirmations) == [200, 409, 409, 409]
    [recovery_codes] = [answer.json["recovery_codes"] for answer in confirmations if answer.status == 200]
    for code in [code_of(secret, 1)] if kind == "a code of the app" else recovery_codes[:2]:
        login = {"username": user["username"], "password": PASSWORD, "otp": code}
        token = PROOF | {"name": "Export", "scope": "read", "otp": code}
        answers = call_concurrently(
            *[partial(live.call, "POST", LOGIN, login)] * 3, *[partial(live.call, "POST", TOKENS, token, access)] * 3
        )
        statuses = [answer.status for answer in answers]
        assert [status for status in statuses if status < 300] in ([200], [201]), statuses
