"""An answer that the server gives in place of a failing application is counted once, too."""

import multiprocessing
from typing import Any

import pytest

from healthcare.operations.metrics import MetricsMemory
from healthcare.operations.metrics_text import render
from healthcare.server.address import Address
from healthcare.server.processes import run_granian
from healthcare.tests.live import TIMEOUT, LiveServer, free_port
from healthcare.tests.prometheus import parse, total

pytestmark = pytest.mark.slow


def serve(port: int, memory: MetricsMemory, ready: Any) -> None:
    application = "healthcare.tests.raising_application:application"
    run_granian(Address("127.0.0.1", port), 1, ready.set, application, drain_seconds=0, metrics=memory)


def test_each_failure_is_one_answer():
    memory, port = MetricsMemory(1, ["other"]), free_port()
    context: Any = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=serve, args=[port, memory, ready])
    process.start()
    try:
        server = LiveServer("127.0.0.1", port, database_url="", environment={})
        assert ready.wait(TIMEOUT)  # the server's call of its own /healthz has been counted
        before = parse(render(memory))
        statuses = [server.call("GET", path).status for path in ("/raise", "/exit", "/iterate", "/close")]
        assert statuses == [500, 500, 500, 200]
        found = parse(render(memory))
    finally:
        process.terminate()
        process.join()
    for status, count in (("500", 3), ("200", 1)):
        name = "healthcare_http_requests_total"
        assert total(found, name, status=status) - total(before, name, status=status) == count
    assert total(found, "healthcare_http_in_flight") == total(found, "healthcare_threads_busy") == 0
