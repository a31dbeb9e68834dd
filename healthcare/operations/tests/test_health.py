"""The answers of /healthz and /readyz outside Django."""

import json
import threading
import time
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError

from healthcare.api.health_checks import HealthAnswer, answer_health_check
from healthcare.operations import clock, health
from healthcare.operations.health import Monitor, ReadinessResult

HEADERS = {
    "Content-Type", "Content-Length", "Cache-Control", "Content-Security-Policy", "X-Content-Type-Options",
    "X-Frame-Options", "X-Request-Id",
}  # fmt: skip


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch) -> Monitor:
    monkeypatch.setattr(health, "monitor", Monitor())
    return health.monitor


def ask(path: str) -> HealthAnswer:
    answer = answer_health_check(path)
    assert answer
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert answer.headers.keys() - {"Retry-After"} == HEADERS
    return answer


def test_only_the_health_checks_are_answered(monitor: Monitor):
    assert [answer_health_check(path) for path in ("/", "/healthz/", "/readyz/", "/api/doctors/")] == [None] * 4


def test_a_process_is_alive_whatever_failed(monitor: Monitor):
    monitor.store({"database": []}, time.monotonic())
    assert (ask("/healthz").status, json.loads(ask("/healthz").body)) == (200, {"status": "ok"})


def test_it_is_ready_if_the_last_evaluation_found_nothing(monitor: Monitor):
    monitor.store({}, time.monotonic())
    assert (ask("/readyz").status, json.loads(ask("/readyz").body)) == (200, {"status": "ok"})


def test_failed_checks_are_a_problem_that_names_them(monitor: Monitor):
    monitor.store({"role": [], "migrations": ["patients.0001_initial"]}, time.monotonic())
    answer = ask("/readyz")
    headers, body = answer.headers, json.loads(answer.body)
    assert (answer.status, headers["Content-Type"]) == (503, "application/problem+json")
    assert int(headers["Retry-After"]) > 0
    assert body.pop("detail").endswith("The database lacks migrations; run `python3 manage.py migrate`.")
    assert body == {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "request_id": headers["X-Request-Id"],
        "failed": ["role", "migrations"],
    }


def test_a_result_that_is_missing_or_too_old_is_a_failed_database(monitor: Monitor):
    for result in (None, ReadinessResult((), time.monotonic() - 5)):
        monitor.result = result
        assert json.loads(ask("/readyz").body)["failed"] == ["database"]


def test_a_draining_process_is_alive_and_not_ready(monitor: Monitor):
    monitor.store({}, time.monotonic())
    monitor.draining = True
    assert json.loads(ask("/readyz").body)["failed"] == ["draining"]
    assert ask("/healthz").status == 200


def test_an_evaluation_that_raises_is_not_the_last_one(monitor: Monitor, monkeypatch: pytest.MonkeyPatch):
    evaluated = threading.Event()

    def evaluate() -> dict[str, list[str]]:
        if not evaluated.is_set():
            evaluated.set()
            raise MemoryError
        return {}

    monkeypatch.setattr(health, "evaluate_in_new_session", evaluate)
    monkeypatch.setattr(health, "INTERVAL", 3600)
    monitor.start()
    assert evaluated.wait(60)
    assert ask("/readyz").status == 503
    monitor.evaluate_now()
    assert ask("/readyz").status == 200


def test_a_request_that_fails_has_the_database_looked_at_before_the_interval_is_over(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
):
    found: list[dict[str, list[str]]] = [{}, {"database": []}]
    monkeypatch.setattr(health, "evaluate_in_new_session", lambda: found.pop(0))
    monkeypatch.setattr(health, "INTERVAL", 3600)
    monkeypatch.setattr(health, "INTERVAL_AFTER_SUSPICION", 0)
    monitor.start()
    assert ask("/readyz").status == 200
    since = time.monotonic()
    assert health.is_fault_of_database(OperationalError("connection lost"))
    monitor.wait_for_result(since)
    assert json.loads(ask("/readyz").body)["failed"] == ["database"]


class SetClock:
    """Stands in for the module `time`, with a wall clock that a test sets."""

    ahead = 0.0
    monotonic = staticmethod(time.monotonic)

    def time(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """The system clock of this machine, as `healthcare.operations.clock` reads it."""
    monkeypatch.setattr(clock, "time", set_clock := SetClock())
    monkeypatch.setattr(clock.database_clock, "ahead_of_monotonic", time.time() - time.monotonic())
    return set_clock


def test_a_clock_that_is_set_is_noticed_at_once(monitor: Monitor, set_clock: SetClock, settings: Any):
    monitor.store({}, time.monotonic())
    for ahead, failed in ((59, []), (-59, []), (61, ["clock"]), (-61, ["clock"]), (3.2e8, ["clock"])):
        set_clock.ahead = ahead
        assert json.loads(ask("/readyz").body).get("failed", []) == failed, ahead
    settings.CLOCK_DIFFERENCE_SECONDS = 0
    assert ask("/readyz").status == 200


def test_clocks_that_only_seem_to_differ_are_compared_again(
    monitor: Monitor, set_clock: SetClock, monkeypatch: pytest.MonkeyPatch
):
    def evaluate() -> dict[str, list[str]]:
        clock.database_clock.set(set_clock.time(), time.monotonic())
        return {}

    monkeypatch.setattr(health, "evaluate_in_new_session", evaluate)
    monkeypatch.setattr(health, "INTERVAL", 3600)
    monitor.start()
    set_clock.ahead = 3600  # as after a sleep, in which the monotonic clock stands still
    assert not monitor.clocks_differ()


@pytest.mark.django_db
@pytest.mark.parametrize("ahead", [86_400, -86_400])
@pytest.mark.parametrize(
    "command",
    [
        ["tidy"],
        ["retention_due"],
        ["seal_audit"],
        ["archive", "/nowhere/archive", "--before", "2020-01"],
        ["erase_patient", "17", "--reason", "request", "--yes"],
    ],
    ids=lambda command: command[0],
)
def test_a_command_that_judges_by_age_refuses_a_wrong_clock(set_clock: SetClock, command: list[str], ahead: int):
    set_clock.ahead = ahead
    with pytest.raises(
        CommandError, match=r"^The clock of this machine is 86\d+ seconds (ahead of|behind) that of the"
    ):
        call_command(*command)
