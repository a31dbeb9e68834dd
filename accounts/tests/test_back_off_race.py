"""Concurrent wrong logins cannot exceed the limit together."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import psycopg2
import pytest

from accounts.tests.answers import WRONG_LOGIN
from conftest import PASSWORD
from healthcare.tests.concurrent_calls import call_concurrently, sorted_statuses
from healthcare.tests.live import LiveServer

# Every wait an hour longer, so that no machine is slow enough to sit one out within a test.
LONGER_WAITS = """
CREATE FUNCTION wait_longer() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF NEW.until > now() THEN NEW.until := NEW.until + interval '1 hour'; END IF; RETURN NEW; END $$;
CREATE TRIGGER wait_longer BEFORE UPDATE ON accounts_attempts FOR EACH ROW EXECUTE FUNCTION wait_longer();
DELETE FROM accounts_attempts
"""


@pytest.fixture(autouse=True)
def attempts(limited: LiveServer) -> Iterator[Any]:
    """A connection to the table of attempts, empty at the beginning."""
    connection = psycopg2.connect(limited.database_url)
    connection.autocommit = True
    connection.cursor().execute(LONGER_WAITS)
    yield connection
    connection.cursor().execute("DROP FUNCTION wait_longer CASCADE; DELETE FROM accounts_attempts")
    connection.close()


@pytest.mark.parametrize("known", [True, False])
def test_of_forty_concurrent_wrong_logins_ten_are_answered(live: LiveServer, limited: LiveServer, known: bool):
    username = live.register()[0]["username"] if known else "nobody"
    body = {"username": username, "password": "WrongPass123"}
    answers = call_concurrently(*[partial(limited.call, "POST", "/api/auth/login/", body)] * 40)
    assert sorted_statuses(answers) == [401] * 10 + [429] * 30
    for answer in answers:
        detail = answer.json["detail"]
        assert answer.status == 429 or detail == WRONG_LOGIN["detail"]
        assert answer.status == 401 or int(answer.headers["Retry-After"]) > 3500


def test_of_thirty_concurrent_names_ten_below_the_limit_of_the_address_are_answered(limited: LiveServer, attempts: Any):
    limited.call("POST", "/api/auth/login/", {"username": "nobody", "password": "WrongPass123"})
    attempts.cursor().execute("UPDATE accounts_attempts SET count = 990")
    bodies = [{"username": f"nobody{number}", "password": "WrongPass123"} for number in range(30)]
    answers = call_concurrently(*[partial(limited.call, "POST", "/api/auth/login/", body) for body in bodies])
    assert sorted_statuses(answers) == [401] * 10 + [429] * 20


def test_concurrent_right_logins_all_succeed(live: LiveServer, limited: LiveServer):
    username = live.register()[0]["username"]
    body = {"username": username, "password": PASSWORD}
    answers = call_concurrently(*[partial(limited.call, "POST", "/api/auth/login/", body)] * 8)
    assert sorted_statuses(answers) == [200] * 8


def test_of_thirty_concurrent_addresses_ten_below_the_limit_of_the_account_are_answered(
    live: LiveServer, limited: LiveServer, attempts: Any
):
    username = live.register()[0]["username"]
    body = {"username": username, "password": "WrongPass123"}

    def guess(number: int) -> Any:
        return limited.call("POST", "/api/auth/login/", body, X_Forwarded_For=f"203.0.113.{number}")

    guess(99)
    attempts.cursor().execute("UPDATE accounts_attempts SET count = 90 WHERE count = 1")
    attempts.cursor().execute("DELETE FROM accounts_attempts WHERE until > now()")
    answers = call_concurrently(*[partial(guess, number) for number in range(30)])
    assert sorted_statuses(answers) == [401] * 10 + [429] * 20
    # Neither does the owner's own address, from which a login has succeeded, wait for them.
    right = {"username": username, "password": PASSWORD}
    assert limited.call("POST", "/api/auth/login/", right).status == 200
