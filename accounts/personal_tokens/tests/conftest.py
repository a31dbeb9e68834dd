"""Tokens of alice, and the fixtures of the second factor, which a new token takes a code of."""

from typing import Any

import pytest

from accounts.delegations.models import Delegation
from accounts.models import User
from accounts.personal_tokens.rules import NewToken, create_token
from accounts.second_factor.tests.conftest import app, clock, enrol  # noqa: F401


@pytest.fixture(params=["fast", "standard"])
def path(request: pytest.FixtureRequest, settings: Any) -> str:
    settings.FAST_PATH = "on" if request.param == "fast" else "off"
    return str(request.param)


@pytest.fixture
def token(alice: User) -> NewToken:
    """A token whose session and user have different ids, so that swapping the ids makes another token."""
    created = create_token(alice, name="Export", scope="write")
    if created.session.pk == alice.pk:
        created.session.delete()
        created = create_token(alice, name="Export", scope="write")
    return created


@pytest.fixture
def read_only(alice: User) -> NewToken:
    return create_token(alice, name="Report", scope="read")


@pytest.fixture
def delegation(alice: User, bob: User) -> Delegation:
    return Delegation.objects.create(owner=bob, delegate=alice, role="write")


@pytest.fixture
def confined(alice: User, delegation: Delegation) -> NewToken:
    return create_token(alice, name="Of bob", scope="write", acting_for="bob")
