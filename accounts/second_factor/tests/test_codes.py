"""Which texts are codes, and the vectors of RFC 6238."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from accounts.second_factor.codes import find_step, normalize_code
from accounts.second_factor.tests.conftest import App, Clock
from conftest import PASSWORD, LoggedInClient

pytestmark = pytest.mark.django_db(transaction=True)

LOGIN, CONFIRM, OTP = "/api/auth/login/", "/api/auth/otp/confirm/", "/api/auth/otp/"
RFC_SECRET = b"12345678901234567890"


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (20000000000, "353130")],
)
def test_the_vectors_of_rfc_6238(clock: Clock, seconds: int, code: str):
    clock.now = seconds
    assert find_step(RFC_SECRET, code, None) == seconds // 30
    assert find_step(RFC_SECRET, code, seconds // 30 - 1) == seconds // 30
    assert find_step(RFC_SECRET, code, seconds // 30) is None


@pytest.mark.parametrize("text", [None, "", " ", "-", "\u2013 \u2003"])
def test_only_separators_are_no_code(text: str | None):
    assert normalize_code(text) == ""


# {0} stands for the code that would be right.
WRONG_FORMS = [
    "0{0}", "{0}0", "+{0}", "{0}.0", "0x{0}", "{0}\n1", "1_{0}", "{0}e0", "12345", "abcdef", "'; --",
    "\u0661\u0662\u0663\u0664\u0665\u0666", "\uff11\uff12\uff13\uff14\uff15\uff16", "\u00b2" * 6, "x" * 100,
]  # fmt: skip


def in_other_digits(code: str) -> list[str]:
    """A code in Arabic and in full-width digits."""
    return ["".join(chr(zero + int(digit)) for digit in code) for zero in (0x660, 0xFF10)]


def test_other_forms_of_the_right_code_are_wrong_and_no_error(app: App, anonymous: APIClient, settings: Any):
    settings.THROTTLE_SCALE = 100
    code = app.code()
    for otp in [*(form.replace("{0}", code) for form in WRONG_FORMS), *in_other_digits(code)]:
        answer = anonymous.post(LOGIN, {"username": "alice", "password": PASSWORD, "otp": otp})
        assert (answer.status_code, answer.json().get("code")) == (401, "otp_required"), ascii(otp)
    assert anonymous.post(LOGIN, {"username": "alice", "password": PASSWORD, "otp": code}).status_code == 200


def test_what_is_no_text_is_refused_by_its_field(app: App, alice: User, anonymous: APIClient):
    client = LoggedInClient(alice)
    for otp in (123456, 1.5, 1e300, True, ["123456"], {"otp": "1"}, "1" * 101, "9" * 10_000):
        for answer in (
            anonymous.post(LOGIN, {"username": "alice", "password": PASSWORD, "otp": otp}),
            client.post(CONFIRM, {"otp": otp}),
            client.delete(OTP, {"current_password": PASSWORD, "otp": otp}),
        ):
            assert answer.status_code == 400
            assert {error["pointer"] for error in answer.json()["errors"]} == {"/otp"}
    number = anonymous.post(LOGIN, {"username": "alice", "password": PASSWORD, "otp": 123456}).json()
    assert number["errors"][0]["detail"] == "Send the code as text, in quotes: a number loses its leading zeros."


def test_bytes_that_are_no_text_are_refused(app: App, anonymous: APIClient):
    for otp in (rb"\u0000", rb"\ud800", b"\xff"):
        body: Any = b'{"username": "alice", "password": "' + PASSWORD.encode() + b'", "otp": "12345' + otp + b'"}'
        answer = anonymous.generic("POST", LOGIN, body, content_type="application/json")
        assert answer.status_code == 400


def test_a_code_keeps_its_leading_zeros(app: App, clock: Clock, anonymous: APIClient):
    while not app.code().startswith("0"):
        clock.pass_step()
    code = app.code()
    for otp, status in ((code.lstrip("0"), 401), (code, 200)):
        answer = anonymous.post(LOGIN, {"username": "alice", "password": PASSWORD, "otp": otp})
        assert answer.status_code == status
