"""The counts in shared memory: exact, finite, and as Prometheus reads them."""

import math
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from healthcare.operations import metrics
from healthcare.operations.metrics import MetricsMemory
from healthcare.operations.metrics_text import Gauge, render, render_family
from healthcare.operations.routes import ROUTE
from healthcare.tests.prometheus import Family, needs_promtool, parse, promtool, total

ROUTES = ["/api/doctors/", "/api/doctors/{id}/", "other"]


@pytest.fixture
def memory() -> Iterator[MetricsMemory]:
    yield MetricsMemory(2, ROUTES)
    metrics.worker = None


def samples(memory: MetricsMemory) -> dict[str, Family]:
    return parse(render(memory))


def answer(method: str = "GET", route: str = "/api/doctors/", status: int = 200) -> None:
    environ: dict[str, Any] = {"REQUEST_METHOD": method, ROUTE: route}
    metrics.request_arrived(environ)
    metrics.request_left_queue(environ, 0.0, runs=True)
    metrics.request_answered(environ, status)
    metrics.request_answered(environ, 500)  # a second answer, which is not sent


def answer_in_a_process(memory: MetricsMemory, slot: int, count: int, last_words: Any = None) -> None:
    metrics.take_slot(memory, slot)
    for _ in range(count):
        answer()
    if last_words:
        metrics.request_arrived({})
        last_words.send(True)
        signal.pause()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_counts_of_processes_add_up_across_deaths_and_continue_in_the_same_slot(memory: MetricsMemory, method: str):
    context: Any = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    killed = context.Process(target=answer_in_a_process, args=[memory, 0, 1000, sender])
    other = context.Process(target=answer_in_a_process, args=[memory, 1, 500])
    killed.start()
    other.start()
    assert receiver.recv()
    other.join()  # else one of its requests may be in flight, too
    assert total(samples(memory), "healthcare_http_in_flight") == 1
    killed.kill()
    killed.join()
    assert total(samples(memory), "healthcare_http_in_flight") == 0  # its request died with it
    replacement = context.Process(target=answer_in_a_process, args=[memory, 0, 10])
    replacement.start()
    replacement.join()
    found = samples(memory)
    assert total(found, "healthcare_http_requests_total") == 1510
    assert total(found, "healthcare_http_request_seconds_count") == 1510
    assert total(found, "healthcare_queue_seconds_count") == 1510
    assert total(found, "healthcare_http_in_flight") == total(found, "healthcare_threads_busy") == 0


def test_threads_of_a_worker_lose_no_count(memory: MetricsMemory):
    metrics.take_slot(memory, 0)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: answer(), range(4000)))
    found = samples(memory)
    assert total(found, "healthcare_http_requests_total", status="200") == 4000
    assert total(found, "healthcare_http_in_flight") == total(found, "healthcare_threads_busy") == 0


def test_a_request_costs_microseconds(memory: MetricsMemory):
    metrics.take_slot(memory, 0)
    began = time.process_time()
    for _ in range(5000):
        answer()
    assert (time.process_time() - began) / 5000 < 50e-6  # 3 microseconds on an idle machine


def test_what_clients_invent_creates_no_series(memory: MetricsMemory):
    metrics.take_slot(memory, 0)
    for number in range(50):
        answer(f"METHOD{number}", f"/api/patients/{number}/", 600 + number)
    answer("BREW", "/api/doctors/{id}/", 200)
    answer("GET", "/invented/", 200)
    series = {
        tuple(dict(labels).values()): value
        for (_, labels), value in samples(memory)["healthcare_http_requests_total"].samples.items()
    }
    assert series == {
        ("other", "other", "other"): 50,
        ("other", "/api/doctors/{id}/", "200"): 1,
        ("GET", "other", "200"): 1,
    }


def test_the_histogram_has_cumulative_buckets_and_the_sum(memory: MetricsMemory):
    metrics.take_slot(memory, 0)
    observed = [0.0, 0.001, 0.0011, 0.3, 10.0, 10.1, 500.0]
    for seconds in observed:
        metrics.request_left_queue({}, seconds, runs=False)
    found = samples(memory)
    buckets = {
        float(dict(labels)["le"]): value
        for (name, labels), value in found["healthcare_queue_seconds"].samples.items()
        if name == "healthcare_queue_seconds_bucket"
    }
    assert buckets == {bound: sum(seconds <= bound for seconds in observed) for bound in (*metrics.BUCKETS, math.inf)}
    assert total(found, "healthcare_queue_seconds_count") == len(observed)
    assert total(found, "healthcare_queue_seconds_sum") == pytest.approx(sum(observed))


def test_every_counter_has_its_labels(memory: MetricsMemory):
    metrics.take_slot(memory, 0)
    metrics.count_login_failure()
    metrics.count_idempotent_replay()
    for limit in ("requests", "requests", "failures", "a-limit-of-a-later-version"):
        metrics.count_throttled(limit)
    for sqlstate in ("23505", "08006", "HC001"):
        metrics.count_database_error(sqlstate)
    memory.count_worker_restart()
    found = samples(memory)
    assert total(found, "healthcare_login_failures_total") == 1
    assert total(found, "healthcare_idempotent_replays_total") == 1
    assert total(found, "healthcare_worker_restarts_total") == 1
    assert total(found, "healthcare_throttled_total", limit="requests") == 2
    assert total(found, "healthcare_throttled_total", limit="other") == 1
    assert total(found, "healthcare_throttled_total", limit="registrations") == 0
    errors = found["healthcare_database_errors_total"].samples
    assert {dict(labels)["sqlstate"]: value for (_, labels), value in errors.items()} == {
        **dict.fromkeys(metrics.WATCHED_SQLSTATES, 0), "23505": 1, "08006": 1, "other": 1
    }  # fmt: skip


def test_the_text_escapes_what_labels_and_helps_hold():
    labels = (("b", 'quote " slash \\ line \n'),)
    text = "\n".join(render_family("a", "gauge", "one\ntwo \\", [("", labels, 1)])) + "\n"
    assert text == ('# HELP a one\\ntwo \\\\\n# TYPE a gauge\na{b="quote \\" slash \\\\ line \\n"} 1\n')
    assert parse(text)["a"] == Family("gauge", "one\ntwo \\", {("a", labels): 1})


@needs_promtool
def test_promtool_accepts_the_text(memory: MetricsMemory):
    metrics.take_slot(memory, 0)
    answer()
    metrics.count_database_error("23505")
    gauges: list[Gauge] = [("healthcare_backup_age_seconds", "Seconds \\ since\nthe last backup.", {(): 3.5})]
    assert promtool("check", "metrics", text=render(memory, gauges)) == ""  # it prints what it objects to


def test_a_process_without_a_slot_counts_nothing(memory: MetricsMemory):
    before = render(memory)
    answer()
    metrics.count_login_failure()
    assert render(memory) == before
    metrics.take_slot(memory, 0)
    answer()
    assert render(memory) != before


def test_the_memory_is_anonymous(memory: MetricsMemory):
    assert not os.path.exists(os.readlink(f"/proc/self/fd/{memory.descriptor}").removesuffix(" (deleted)"))
