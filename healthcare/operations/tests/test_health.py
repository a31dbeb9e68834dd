"""The answers of /healthz and /readyz outside Django."""

import json
import threading
import time

import pytest

from healthcare.api.health_checks import HealthAnswer, answer_health_check
from healthcare.operations import health
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
