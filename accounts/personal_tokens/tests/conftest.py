"""The fixtures of the second factor, which a new token takes a code of."""

from accounts.second_factor.tests.conftest import app, clock, enrol  # noqa: F401
