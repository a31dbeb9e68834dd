"""A clock that tests set, and alice with a second factor."""

import base64
from collections.abc import Callable
from typing import Any

import pytest
from django.test import RequestFactory
from django_otp.oath import hotp

from accounts.models import User
from accounts.second_factor import codes
from accounts.second_factor.rules import begin_factor, confirm_factor

NOON = 1_800_000_000.0  # the beginning of a step


class Clock:
    """The time by which codes are checked, in seconds."""

    now = NOON

    def time(self) -> float:
        return self.now

    def pass_step(self) -> None:
        self.now += 30


class App:
    """An authenticator app with this secret, in base32."""

    def __init__(self, clock: Clock, secret: str) -> None:
        self.clock, self.secret = clock, base64.b32decode(secret)
        self.recovery_codes: list[str] = []

    def code(self, steps: int = 0) -> str:
        """The code of this moment, or of so many steps later."""
        return f"{hotp(self.secret, int(self.clock.now // 30) + steps):06}"

    def wrong_code(self) -> str:
        """A code of no step that is accepted now."""
        near = {self.code(steps) for steps in range(-3, 4)}
        return next(code for code in (f"{number:06}" for number in range(10)) if code not in near)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(codes, "time", clock)
    return clock


@pytest.fixture
def enrol(clock: Clock) -> Callable[[User], App]:
    """Gives a user a confirmed second factor, whose next unused code is that of the moment."""

    def enrol_user(user: User) -> App:
        request: Any = RequestFactory().post("/api/auth/otp/confirm/")
        app = App(clock, begin_factor(user).secret)
        recovery_codes = confirm_factor(request, user, app.code())
        assert recovery_codes is not None
        app.recovery_codes = recovery_codes
        clock.pass_step()
        return app

    return enrol_user


@pytest.fixture
def app(enrol: Callable[[User], App], alice: User) -> App:
    """Alice's app."""
    return enrol(alice)
