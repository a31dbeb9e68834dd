"""A lock, or a server that does not answer: every call ends in a 503, and the health checks answer meanwhile."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import psutil
import psycopg2
import pytest

from healthcare.operations.tests.calls import (
    Caller,
    failed_checks,
    is_unavailable,
    wait_for_checks,
)
from healthcare.tests.concurrent_calls import call_concurrently
from healthcare.tests.live import Answer, LiveServer
from healthcare.tests.postgres import SeparatePostgres

pytestmark = pytest.mark.slow

ENDED = 60  # seconds: four times what is promised, for a busy machine; a call without a timeout never ends


@contextmanager
def locked(server: LiveServer, *tables: str) -> Iterator[None]:
    with closing(psycopg2.connect(server.database_url)) as session, session.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")
        yield


@contextmanager
def frozen(postgres: SeparatePostgres) -> Iterator[None]:
    """Stop every process of the server; the kernel still accepts connections and what they send."""
    assert postgres.process
    postmaster = psutil.Process(postgres.process.pid)
    processes = [postmaster.pid, *(child.pid for child in postmaster.children(recursive=True))]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in reversed(processes):
            os.kill(process, signal.SIGCONT)


def fours(names: list[str]) -> list[list[str]]:
    return [names[start : start + 4] for start in range(0, len(names), 4)]


def ends_unavailable(calls: dict[str, Callable[[], Answer]], names: list[str]) -> None:
    """Send no more calls at once than the server has threads: it refuses those that would wait for one."""
    for four in fours(names):
        began = time.monotonic()
        answers = dict(zip(four, call_concurrently(*[calls[name] for name in four]), strict=True))
        assert time.monotonic() - began < ENDED
        assert {name: answer.status for name, answer in answers.items() if not is_unavailable(answer)} == {}


def test_calls_that_wait_for_a_lock_end_and_the_health_checks_answer(server: LiveServer, caller: Caller) -> None:
    calls = caller.writes
    waiting = ["login", "refused login", "register", "refresh", "logout", "fast read", "standard write", "admin page"]
    with locked(server, "accounts_attempts", "accounts_loginsession", "accounts_user", "django_session"):
        ends_unavailable(calls, waiting)
        assert failed_checks(server) == []
        with ThreadPoolExecutor(8) as callers:
            ends = [callers.submit(calls["login"]) for _ in range(8)]
            assert server.call("GET", "/healthz").status == 200
        assert [is_unavailable(end.result()) for end in ends] == [True] * 8
    assert calls["login"]().status == 200


def test_a_lock_on_the_attempts_stops_logins_and_nothing_else(server: LiveServer, caller: Caller) -> None:
    with locked(server, "accounts_attempts"):
        ends_unavailable(caller.writes, ["login", "refused login", "register", "admin login"])
        assert caller.writes["fast write"]().status == 201


def test_calls_end_while_the_server_is_frozen_and_work_when_it_is_not(
    server: LiveServer, caller: Caller, postgres: SeparatePostgres
) -> None:
    assert caller.use_every_thread() == {200}
    calls = {**caller.writes, **caller.reads}
    del calls["admin login"]  # fetches a form first
    with frozen(postgres):
        ends_unavailable(calls, [*calls])  # first over open sessions, then over new ones
        assert server.call("GET", "/healthz").status == 200
        assert failed_checks(server) == ["database"]
    wait_for_checks(server)
    assert {name: call().status for name, call in calls.items() if call().status >= 500} == {}
    assert caller.use_every_thread() == {200}
