"""Who the caller is, as the one statement that authenticates says."""

from typing import Any

import pytest
from django.db import transaction

from accounts.authentication import COLUMNS, NEEDED, SessionJWTAuthentication
from accounts.models import User
from conftest import LoggedInClient


def test_the_account_is_answered_as_it_is_stored(as_alice: LoggedInClient, alice: User) -> None:
    expected = {"id": alice.pk, "name": "Alice", "email": "alice@example.org", "username": "alice"}
    assert as_alice.get("/api/auth/me/").json() == expected
    assert as_alice.patch("/api/auth/me/", {}).json() == expected


@pytest.mark.parametrize("who", ["alice", "staff"])
def test_every_column_of_the_caller_is_its_own(request: pytest.FixtureRequest, who: str) -> None:
    client: Any = request.getfixturevalue(f"as_{who}")
    stored: User = request.getfixturevalue(who)
    authentication = SessionJWTAuthentication()
    with transaction.atomic():
        user = authentication.get_user(authentication.get_validated_token(client.tokens["access"].encode()))
        transaction.set_rollback(True)
    stored.refresh_from_db()
    assert set(COLUMNS) == NEEDED
    assert {name: getattr(user, name) for name in COLUMNS} == {name: getattr(stored, name) for name in COLUMNS}
