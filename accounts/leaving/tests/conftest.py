"""The fixtures of the second factor."""

from accounts.second_factor.tests.conftest import clock, enrol  # noqa: F401
