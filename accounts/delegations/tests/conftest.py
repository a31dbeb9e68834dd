"""Fixtures: asha and ben, who act for others."""

from collections.abc import Callable

import pytest

from accounts.models import User
from conftest import LoggedInClient, logged_in


@pytest.fixture
def asha(make_user: Callable[..., User]) -> User:
    return make_user("asha")


@pytest.fixture
def ben(make_user: Callable[..., User]) -> User:
    return make_user("ben")


@pytest.fixture
def as_asha(asha: User) -> LoggedInClient:
    return logged_in(asha)


@pytest.fixture
def as_ben(ben: User) -> LoggedInClient:
    return logged_in(ben)
