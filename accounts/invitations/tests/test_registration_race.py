"""Concurrent registrations with one invitation, over real connections."""

import uuid
from functools import partial
from typing import Any

import psycopg2
import pytest

from healthcare.tests.concurrent_calls import call_concurrently, sorted_statuses
from healthcare.tests.live import LiveServer


@pytest.fixture(scope="module")
def staff_token(live_server_process: LiveServer) -> str:
    user, tokens = live_server_process.register()
    with psycopg2.connect(live_server_process.database_url) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_user SET is_staff = true WHERE id = %s", [user["id"]])
    return str(tokens["access"])


def account(**fields: Any) -> dict[str, Any]:
    name = f"eve{uuid.uuid4().hex[:12]}"
    return {"name": "Eve", "email": f"{name}@example.org", "username": name, "password": "Kf7-twelve", **fields}


def test_of_concurrent_registrations_with_one_invitation_one_succeeds(live: LiveServer, staff_token: str) -> None:
    for _ in range(10):
        text = live.call("POST", "/api/auth/invitations/", {}, staff_token).json["invitation"]
        calls = [
            partial(
                live.call, "POST", "/api/auth/register/", account(invitation=text, email=f"{n}-{uuid.uuid4()}@x.org")
            )
            for n in range(4)
        ]
        answers = call_concurrently(*calls)
        assert sorted_statuses(answers) == [201, 400, 400, 400]
        refused = [answer.json["errors"] for answer in answers if answer.status == 400]
        assert {(error["pointer"], error["code"]) for errors in refused for error in errors} == {
            ("/invitation", "invalid")
        }


def test_a_registration_that_waits_for_one_that_fails_succeeds(live: LiveServer, staff_token: str) -> None:
    """One of the two names a taken username. It never takes the invitation from the other."""
    taken, _ = live.register()
    for _ in range(10):
        text = live.call("POST", "/api/auth/invitations/", {}, staff_token).json["invitation"]
        fails, succeeds = account(invitation=text, username=taken["username"]), account(invitation=text)
        answers = call_concurrently(
            *(partial(live.call, "POST", "/api/auth/register/", one) for one in (fails, succeeds))
        )
        assert sorted_statuses(answers) == [201, 400]
        [refused] = [answer.json["errors"] for answer in answers if answer.status == 400]
        pointers = {(error["pointer"], error["code"]) for error in refused}
        # The first request locks the row of the invitation: after its success the invitation is used up.
        assert pointers in ({("/username", "unique")}, {("/invitation", "invalid")})
