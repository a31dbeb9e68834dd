"""The same key over real connections: concurrently, and after a worker was killed between commit and answer."""

import time
import uuid
from collections.abc import Callable
from functools import partial
from http.client import HTTPException

import pytest

from healthcare.tests.concurrent_calls import call_concurrently
from healthcare.tests.live import TIMEOUT, Answer, LiveServer, serving

pytestmark = pytest.mark.slow

TURNS = 25


def names(live: LiveServer, token: str) -> list[str]:
    return [row["name"] for row in live.call("GET", "/api/patients/?limit=500", token=token).json]


def test_one_of_sixteen_concurrent_requests_is_executed(live: LiveServer) -> None:
    token = live.register()[1]["access"]
    for turn in range(TURNS):
        send = partial(
            live.call, "POST", "/api/patients/", {"name": f"P{turn}"}, token, Idempotency_Key=uuid.uuid4().hex
        )
        answers = call_concurrently(*[send] * 16)
        executed = [a for a in answers if a.status == 201 and "Idempotency-Replayed" not in a.headers]
        replayed = [a for a in answers if a.status == 201 and a.headers["Idempotency-Replayed"] == "true"]
        refused = [a for a in answers if a.status == 409]
        assert (len(executed), len(replayed) + len(refused)) == (1, 15), [a.status for a in answers]
        assert {a.body for a in replayed} <= {executed[0].body}
        assert all(int(a.headers["Retry-After"]) >= 1 for a in refused)
        assert send().body == executed[0].body
    assert sorted(names(live, token)) == sorted(f"P{turn}" for turn in range(TURNS))


def test_one_of_sixteen_concurrent_registrations_is_executed(live: LiveServer) -> None:
    name = f"user{uuid.uuid4().hex[:12]}"
    body = {"name": name, "username": name, "email": f"{name}@example.org", "password": "StrongPass123"}
    send = partial(live.call, "POST", "/api/auth/register/", body, Idempotency_Key="1")
    answers = call_concurrently(*[send] * 16)
    assert {answer.status for answer in answers} <= {201, 409}
    assert len([a for a in answers if a.status == 201 and "Idempotency-Replayed" not in a.headers]) == 1
    assert send().headers["Idempotency-Replayed"] == "true"


def test_a_retry_after_a_worker_was_killed_before_its_answer_creates_no_second_row(live: LiveServer) -> None:
    with serving(live.database_url, "healthcare.tests.crashing_application:application", migrated=True) as server:
        token = server.register()[1]["access"]
        send = partial(server.call, "POST", "/api/patients/", {"name": "Once"}, token, Idempotency_Key="1")
        with pytest.raises((OSError, HTTPException)):
            send(X_Crash_After_Commit="now")
        assert names(live, token) == ["Once"]
        answer = eventually(send)
        assert (answer.status, answer.headers["Idempotency-Replayed"]) == (201, "true")
    assert names(live, token) == ["Once"]


def eventually(send: Callable[[], Answer]) -> Answer:
    """The first answer of a server that is coming back."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        try:
            return send()
        except (OSError, HTTPException):
            time.sleep(0.05)
    raise AssertionError("the server did not come back")
