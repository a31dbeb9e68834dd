"""METRICS of `manage.py serve`: its counts against what a client has sent, and its answers whatever happens."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
from django.conf import settings

from healthcare.embedded.binaries import find_binaries
from healthcare.embedded.tests.harness import eventually
from healthcare.server.metrics_endpoint import MAX_SCRAPES
from healthcare.tests.live import TIMEOUT, LiveServer, free_port, own_database, url_of
from healthcare.tests.migrated import DATABASE as MIGRATED
from healthcare.tests.migrated import ensure_template_database
from healthcare.tests.prometheus import Family, parse, total
from healthcare.tests.superuser import admin_connection
from healthcare.tests.test_monitoring import RUNBOOK, expressions, metrics_and_labels

pytestmark = pytest.mark.slow

REQUESTS = "healthcare_http_requests_total"
WORKERS = 3


class MonitoredServer(LiveServer):
    """`manage.py serve` with METRICS."""

    process: subprocess.Popen[bytes]
    metrics_host: str
    metrics_port: int

    def ask(self, path: str, method: str = "GET") -> tuple[int, str]:
        """The answer of METRICS."""
        client = http.client.HTTPConnection(self.metrics_host, self.metrics_port, timeout=TIMEOUT)
        with closing(client):
            client.request(method, path)
            response = client.getresponse()
            return response.status, response.read().decode()

    def scrape(self) -> dict[str, Family]:
        status, text = self.ask("/metrics")
        assert status == 200
        return parse(text)

    def total(self, name: str, **labels: str) -> float:
        return total(self.scrape(), name, **labels)

    def requests(self) -> Counter[tuple[str, str, str]]:
        """The numbers of requests by method, route and status."""
        return Counter(
            {
                (labels["method"], labels["route"], labels["status"]): int(value)
                for (_, own), value in self.scrape()[REQUESTS].samples.items()
                if (labels := dict(own))
            }
        )

    def endpoints(self) -> list[psutil.Process]:
        """The processes that hold the port of METRICS, beside the parent."""
        return [one for one in psutil.Process(self.process.pid).children() if holds_port(one, self.metrics_port)]

    def workers(self) -> list[psutil.Process]:
        return [one for one in psutil.Process(self.process.pid).children() if not holds_port(one, self.metrics_port)]


def holds_port(process: psutil.Process, port: int) -> bool:
    try:
        return any(found.laddr and found.laddr.port == port for found in process.net_connections("tcp"))
    except psutil.NoSuchProcess:  # it has ended since it was listed
        return False


def command(port: int, *, workers: int, spawns: bool) -> list[str]:
    if not spawns:
        return [sys.executable, "manage.py", "serve", str(port), "--workers", str(workers)]
    program = (
        "import multiprocessing, sys; multiprocessing.set_start_method('spawn');"
        "from django.core.management import execute_from_command_line as execute;"
        f"execute(['manage.py', 'serve', '{port}', '--workers', '{workers}'])"
    )
    return [sys.executable, "-c", program]


@contextmanager
def serving_with_metrics(
    database_url: str, *, workers: int = 1, spawns: bool = False, host: str = "127.0.0.1", **more: str
) -> Iterator[MonitoredServer]:
    port, metrics_port = free_port(), free_port()
    shown = f"[{host}]" if ":" in host else host
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "healthcare.tests.settings",
        "DATABASE_URL": database_url,
        "METRICS": f"{shown}:{metrics_port}",
        "THROTTLE_SCALE": "1",
        "DRAIN_SECONDS": "0",
        **more,
    }
    server = MonitoredServer("127.0.0.1", port, database_url, environment)
    server.metrics_host, server.metrics_port = host, metrics_port
    server.process = subprocess.Popen(
        command(port, workers=workers, spawns=spawns), cwd=settings.BASE_DIR, env=environment, stdout=subprocess.PIPE
    )
    try:
        assert server.process.stdout
        while b"Ctrl-C" not in server.process.stdout.readline():
            assert server.process.poll() is None
        yield server
    finally:
        if server.process.poll() is None:
            server.process.terminate()
        server.process.communicate(timeout=TIMEOUT)


@pytest.fixture(scope="module")
def database(django_db_setup: None, django_db_blocker: Any) -> Iterator[str]:
    with django_db_blocker.unblock(), ExitStack() as stack:
        ensure_template_database()
        name = stack.enter_context(own_database(template=MIGRATED))
        url = url_of(name)
        django_db_blocker.block()
        yield url
        django_db_blocker.unblock()


@pytest.fixture(scope="module")
def server(database: str) -> Iterator[MonitoredServer]:
    with serving_with_metrics(database, workers=WORKERS, RATE_LIMIT="0", BODY_SECONDS="1") as monitored:
        yield monitored


def every_kind_of_answer(server: MonitoredServer, token: str) -> Counter[tuple[str, str, str]]:
    """Send requests that are answered at every place there is, and return what METRICS should count of them."""
    name = {"name": "Ada", "age": 3, "gender": "F", "address": ""}
    sent: list[tuple[str, str, Any, str, dict[str, str], str, int]] = [
        ("GET", "/api/doctors/", None, "", {}, "/api/doctors/", 200),  # the fast path
        ("GET", "/api/doctors/?count=true", None, "", {}, "/api/doctors/", 200),
        ("GET", "/api/patients/", None, token, {}, "/api/patients/", 200),
        ("POST", "/api/patients/", name, token, {}, "/api/patients/", 201),
        ("POST", "/api/patients/", {"age": -1}, token, {}, "/api/patients/", 400),
        ("GET", "/api/patients/", None, "", {}, "/api/patients/", 401),
        ("GET", "/api/patients/1234567/", None, token, {}, "/api/patients/{id}/", 404),
        ("DELETE", "/api/patients/", None, token, {}, "/api/patients/", 405),
        # only announced: the server answers before a body arrives, so sending one might meet a closed connection
        ("POST", "/api/patients/", None, token, {"Content-Length": "1100000"}, "/api/patients/", 413),
        ("POST", "/api/patients/", b"{}", token, {"Content-Type": "application/json; charset=latin-1"},
            "/api/patients/", 415),  # by the middleware, before the view is looked up
        ("GET", "/api/patients/7", None, token, {}, "other", 404),
        ("GET", "/api/anything/7/", None, token, {}, "other", 404),
        ("BREW", "/api/doctors/", None, token, {}, "/api/doctors/", 405),
        ("GET", "/healthz", None, "", {}, "/healthz", 200),
        ("HEAD", "/healthz", None, "", {}, "/healthz", 200),
        ("GET", "/readyz", None, "", {}, "/readyz", 200),
        ("GET", "/metrics", None, "", {}, "other", 404),
        ("GET", "/admin/", None, "", {}, "/admin/", 302),
        ("GET", "/admin/nothing/", None, "", {}, "other", 302),
        ("GET", "/", None, "", {}, "/", 200),
        ("GET", "/docs", None, "", {}, "other", 302),
    ]  # fmt: skip
    expected: Counter[tuple[str, str, str]] = Counter()
    for method, path, body, bearer, headers, route, status in sent:
        answer = server.call(method, path, body, bearer, **headers)
        assert answer.status == status, (method, path, answer.status)
        expected[method if method != "BREW" else "other", route, str(status)] += 1
    return expected


def test_every_answer_is_counted_once_with_its_method_route_and_status(server: MonitoredServer):
    _, tokens = server.register()
    before = server.requests()
    expected = every_kind_of_answer(server, tokens["access"])
    found = server.scrape()
    assert server.requests() - before == expected
    assert total(found, "healthcare_http_request_seconds_count") == total(found, REQUESTS)
    assert total(found, "healthcare_http_in_flight") == 0


def send_until(server: MonitoredServer, stop: threading.Event) -> Counter[str]:
    """Send requests one after the other, each over a new connection."""
    outcome: Counter[str] = Counter()
    while not stop.is_set():
        try:
            outcome[str(server.call("GET", "/api/doctors/").status)] += 1
        except (OSError, http.client.HTTPException):
            outcome["unanswered"] += 1
    return outcome


def test_the_sum_is_what_clients_sent_while_a_worker_is_killed(server: MonitoredServer):
    before, restarts = server.total(REQUESTS), server.total("healthcare_worker_restarts_total")
    stop = threading.Event()
    with ThreadPoolExecutor(8) as clients:
        sending = [clients.submit(send_until, server, stop) for _ in range(8)]
        time.sleep(1)
        server.workers()[0].kill()
        eventually(lambda: server.total("healthcare_worker_restarts_total") == restarts + 1)
        time.sleep(1)
        stop.set()
        outcome = sum((one.result() for one in sending), Counter[str]())
    counted = server.total(REQUESTS) - before
    answered = outcome.total() - outcome["unanswered"]
    assert answered > 20
    assert set(outcome) <= {"200", "unanswered"}
    assert answered <= counted <= outcome.total()
    eventually(lambda: server.total("healthcare_http_in_flight") == 0)  # those of the killed worker are gone
    eventually(lambda: len(server.workers()) == WORKERS)
    between = server.total(REQUESTS)
    with ThreadPoolExecutor(8) as clients:
        statuses = [*clients.map(lambda _: server.call("GET", "/api/doctors/").status, range(80))]
    assert statuses == [200] * 80
    assert server.total(REQUESTS) - between == 80


def test_failed_logins_limits_and_replays_are_counted(server: MonitoredServer):
    _, tokens = server.register()
    before = server.scrape()
    for _ in range(12):  # ten are free
        server.call("POST", "/api/auth/login/", {"username": "nobody", "password": "wrong-Pass123"})
    for _ in range(3):
        answer = server.call("POST", "/api/doctors/", {"name": "Eve"}, tokens["access"], Idempotency_Key="once")
        assert answer.status == 201, answer.body
    duplicate = server.call("POST", "/api/auth/register/", {
        "name": "x", "username": "nobody2", "email": "nobody2@example.org", "password": "StrongPass123"
    })  # fmt: skip
    again = server.call("POST", "/api/auth/register/", {
        "name": "x", "username": "nobody2", "email": "nobody3@example.org", "password": "StrongPass123"
    })  # fmt: skip
    assert (duplicate.status, again.status) == (201, 400)
    after = server.scrape()

    def grown(name: str, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    assert grown("healthcare_login_failures_total") == 10
    assert grown("healthcare_throttled_total", limit="failures") == grown("healthcare_throttled_total") == 2
    assert grown("healthcare_idempotent_replays_total") == 2
    assert grown("healthcare_database_errors_total", sqlstate="23505") >= 1


def test_it_answers_while_every_thread_waits_and_counts_what_the_queue_refuses(server: MonitoredServer):
    before = server.requests()
    with closing(psycopg2.connect(server.database_url)) as session:
        session.cursor().execute("LOCK TABLE doctors_doctor")
        with ThreadPoolExecutor(40) as clients:
            sent = [clients.submit(server.call, "GET", "/api/doctors/?count=true") for _ in range(40)]
            eventually(lambda: server.requests()["GET", "/api/doctors/", "503"] > before["GET", "/api/doctors/", "503"])
            found = server.scrape()
            assert 0 < total(found, "healthcare_threads_busy") <= 4 * WORKERS
            assert total(found, "healthcare_http_in_flight") >= total(found, "healthcare_threads_busy")
            assert server.ask("/healthz")[0] == 200
            refused = 40 - 4 * WORKERS
            eventually(lambda: sum(one.done() for one in sent) >= refused)  # by 503, while the others hold the threads
            session.rollback()
            answered = Counter(("GET", "/api/doctors/", str(one.result().status)) for one in sent)
    assert server.requests() - before == answered
    assert answered["GET", "/api/doctors/", "503"] >= refused
    waited = total(found, "healthcare_queue_seconds_count") - total(found, "healthcare_queue_seconds_bucket", le="0.5")
    assert waited > 0
    found = server.scrape()
    assert total(found, "healthcare_threads_busy") == total(found, "healthcare_http_in_flight") == 0


def test_bodies_that_do_not_arrive_are_counted(server: MonitoredServer):
    before = server.requests()
    head = b"POST /api/patients/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc"
    with socket.create_connection((server.host, server.port), timeout=TIMEOUT) as slow:
        slow.sendall(head)
        assert slow.recv(65536).startswith(b"HTTP/1.1 408 ")
    assert server.requests() - before == {("POST", "/api/patients/", "408"): 1}
    with socket.create_connection((server.host, server.port), timeout=TIMEOUT) as gone:
        gone.sendall(head)
    eventually(
        lambda: server.requests() - before == {("POST", "/api/patients/", status): 1 for status in ("408", "400")}
    )
    assert server.total("healthcare_http_in_flight") == 0


def test_without_its_database_the_gauges_are_absent_and_come_back(server: MonitoredServer):
    gauges = {"healthcare_database_connections", "healthcare_audit_unsealed_rows"}
    eventually(lambda: gauges <= server.scrape().keys())
    name = server.database_url.rpartition("/")[2].partition("?")[0]
    refused = server.total("healthcare_database_errors_total", sqlstate="08001")
    with closing(admin_connection()) as admin, admin.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        try:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            eventually(lambda: not gauges & server.scrape().keys())
            eventually(lambda: server.total("healthcare_readiness_check_failed", check="database") == 1)
            assert server.ask("/readyz")[0] == 503
            assert server.ask("/healthz")[0] == 200
            for _ in range(20):  # the sessions of all threads are gone
                assert server.call("GET", "/api/doctors/?count=true").status == 503
            assert server.total("healthcare_database_errors_total", sqlstate="08001") > refused
        finally:
            cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    eventually(lambda: gauges <= server.scrape().keys())
    eventually(lambda: server.ask("/readyz")[0] == 200)


def test_the_paths_of_metrics(server: MonitoredServer):
    assert server.ask("/healthz") == (200, '{"status":"ok"}')
    assert eventually(lambda: server.ask("/readyz") == (200, '{"status":"ok"}'))
    assert server.ask("/metrics", "HEAD") == (200, "")
    assert server.ask("/metrics?name=x")[0] == 200
    assert server.ask("/api/doctors/")[0] == 404
    assert server.ask("/metrics", "POST")[0] == 405
    public = server.call("GET", "/metrics")
    assert (public.status, public.headers["Content-Type"]) == (404, "application/problem+json")


ADD_SEAL_AND_BACKUP = """
INSERT INTO audit_seal (at, "table", columns, row_ids, last_id, latest, codes, code)
VALUES (now() - interval '1 hour', 'none', '{}', '{}', 0, now(), '', '');
INSERT INTO operations_backup (taken_at, size, encrypted) VALUES (now() - interval '2 hours', 1, false)
"""


def test_a_scrape_has_what_the_database_knows_and_all_that_alerts_and_dashboard_use(server: MonitoredServer):
    server.register()
    eventually(lambda: server.total("healthcare_audit_unsealed_rows") > 0)
    found = server.scrape()
    assert total(found, "healthcare_database_connections") >= 1
    assert not {"healthcare_audit_seal_age_seconds", "healthcare_backup_age_seconds"} & found.keys()
    assert total(found, "healthcare_readiness_check_failed") == 0
    [(_, labels)] = found["healthcare_build_info"].samples
    assert dict(labels)["version"] == settings.VERSION

    with closing(psycopg2.connect(server.database_url)) as session, session:
        session.cursor().execute(ADD_SEAL_AND_BACKUP)
    eventually(lambda: server.total("healthcare_backup_age_seconds") >= 7200)
    found = server.scrape()
    assert 3600 <= total(found, "healthcare_audit_seal_age_seconds") < 7200
    names = [sample for family in found.values() for sample in family.samples]
    known = {(name, label) for name, own in names for label in ("", *dict(own))}
    used = set().union(*map(metrics_and_labels, expressions()))
    assert used <= known
    unused = {name for name, family in found.items() if not any(name in one for one in expressions())}
    assert unused == set()
    page = (Path(settings.BASE_DIR) / "docs" / "operations.md").read_text(encoding="utf-8")
    described = re.findall(r"^\| `(healthcare_\w+)(?:\{([\w,]+)\})?` \| (\w+) ", page, re.MULTILINE)
    assert {name: kind for name, _, kind in described} == {name: family.kind for name, family in found.items()}
    assert {name: {*filter(None, labels.split(","))} for name, labels, _ in described} == {
        name: {label for _, own in family.samples for label, _ in own} - {"le"} for name, family in found.items()
    }


def test_the_commands_of_the_runbook_run(server: MonitoredServer, tmp_path: Path):
    blocks = re.findall(r"^```bash\n(.*?)^```", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    script = "".join(blocks).replace("127.0.0.1:9100", f"{server.metrics_host}:{server.metrics_port}")
    dbshell, psql = "python3 manage.py dbshell -- ", 'psql "$DATABASE_URL" -v ON_ERROR_STOP=1 '
    first, rest = script.split(dbshell, 1)
    lines = f"{first}{dbshell}{rest.replace(dbshell, psql)}".splitlines()  # all but the first without Django's start
    program = "set -euo pipefail\n" + "\n".join(dict.fromkeys(lines))
    (tmp_path / "python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tmp_path / "python3").chmod(0o755)
    path = f"{tmp_path}:{Path(find_binaries().program('psql')).parent}:{os.environ['PATH']}"
    environment = {**server.environment, "PATH": path}
    done = subprocess.run(
        ["bash", "-c", program], cwd=settings.BASE_DIR, env=environment,
        capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def test_slow_and_many_clients_do_not_keep_others_from_their_answers(server: MonitoredServer):
    address = (server.metrics_host, server.metrics_port)
    with ExitStack() as stack:
        for number in range(MAX_SCRAPES + 50):
            slow = stack.enter_context(socket.create_connection(address, timeout=TIMEOUT))
            slow.sendall(b"GET /metrics HTTP/1.1\r\nX: " if number % 2 else b"GET /metrics HTTP/1.1\r\n\r\n")
        assert server.ask("/healthz")[0] == 200
        with ThreadPoolExecutor(20) as scrapers:
            assert {one[0] for one in scrapers.map(server.ask, ["/metrics"] * 40)} == {200}
        [endpoint] = server.endpoints()
        assert endpoint.num_threads() < 20
    for garbage in (b"\r\n\r\n", b"\0" * 100_000, b"GET\r\n\r\n", b"GET /metrics" + b"x" * 100_000):
        with socket.create_connection(address, timeout=TIMEOUT) as client:
            client.sendall(garbage)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
    assert server.ask("/healthz")[0] == 200


def test_its_process_alone_holds_the_port_and_is_started_again(server: MonitoredServer):
    [endpoint] = server.endpoints()
    eventually(lambda: len(server.workers()) == WORKERS)
    counted = server.total(REQUESTS)
    endpoint.kill()
    eventually(lambda: [one for one in server.endpoints() if one.pid != endpoint.pid])
    assert server.ask("/healthz")[0] == 200
    assert server.total(REQUESTS) == counted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_is_not_ready_while_the_server_drains_and_ends_with_it(database: str, number: int):
    with serving_with_metrics(database, host="::1", DRAIN_SECONDS="3") as server:
        [endpoint], workers = server.endpoints(), server.workers()
        assert eventually(lambda: server.ask("/readyz")[0] == 200)
        for ignored in (signal.SIGINT, signal.SIGTERM):  # a terminal or systemd sends them to every process
            endpoint.send_signal(ignored)
        assert server.ask("/metrics")[0] == 200
        server.process.send_signal(number)
        if number == signal.SIGTERM:
            eventually(lambda: server.total("healthcare_readiness_check_failed", check="draining") == 1)
            status, body = server.ask("/readyz")
            assert (status, json.loads(body)["failed"]) == (503, ["draining"])
            assert server.process.wait(TIMEOUT) == 0
        server.process.wait(TIMEOUT)
        eventually(lambda: not any(one.is_running() for one in [endpoint, *workers]))


def test_replaced_workers_are_no_restarts_and_keep_their_counts(server: MonitoredServer):
    eventually(lambda: len(server.workers()) == WORKERS)
    before = server.workers()
    counted, restarts = server.total(REQUESTS), server.total("healthcare_worker_restarts_total")
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: len(server.workers()) == WORKERS and not {*before} & {*server.workers()})
    assert server.total("healthcare_worker_restarts_total") == restarts
    statuses = [server.call("GET", "/api/doctors/").status for _ in range(9)]
    assert statuses == [200] * 9
    assert server.total(REQUESTS) - counted == 9


def test_spawned_processes_share_the_counts(database: str):
    with serving_with_metrics(database, workers=2, spawns=True) as server:
        before = server.total(REQUESTS)
        statuses = [server.call("GET", "/api/doctors/").status for _ in range(10)]
        assert statuses == [200] * 10
        assert server.total(REQUESTS) - before == 10
        eventually(lambda: server.ask("/readyz")[0] == 200)
        eventually(lambda: "healthcare_database_connections" in server.scrape())


def test_without_the_setting_there_is_neither_a_port_nor_a_process(database: str):
    port = free_port()
    environment = {**os.environ, "DATABASE_URL": database, "METRICS": ""}
    command_line = [sys.executable, "manage.py", "serve", str(port)]
    process = subprocess.Popen(command_line, cwd=settings.BASE_DIR, env=environment, stdout=subprocess.PIPE)
    try:
        assert process.stdout
        while b"Ctrl-C" not in process.stdout.readline():
            assert process.poll() is None
        children = psutil.Process(process.pid).children()
        assert len(children) == 1
        ports = {found.laddr.port for found in children[0].net_connections("tcp") if found.status == "LISTEN"}
        assert ports == {port}
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT)


@pytest.mark.parametrize(
    ("metrics", "complaint"),
    [
        ("{taken}", "http://127.0.0.1:{taken} cannot be listened on (address already in use); choose another"),
        ("{port}", "http://127.0.0.1:{port} has the port that clients use; choose another"),
        ("0.0.0.0:{port}", "http://localhost:{port} has the port that clients use; choose another"),
        ("[::]:{port}", "http://localhost:{port} has the port that clients use; choose another"),
        ("127.0.0.2:{port}", "http://127.0.0.2:{port} has the port that clients use; choose another"),
    ],
)
def test_an_address_that_cannot_be_used_is_reported_before_anything_starts(
    tmp_path: Path, metrics: str, complaint: str
):
    with socket.create_server(("127.0.0.1", 0)) as other:
        ports = {"taken": other.getsockname()[1], "port": free_port()}
        metrics, complaint = metrics.format(**ports), complaint.format(**ports)
        environment = {**os.environ, "DATABASE_URL": f"embedded://{tmp_path}/home", "METRICS": metrics}
        command_line = [sys.executable, "manage.py", "serve", str(ports["port"])]
        done = subprocess.run(
            command_line, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True, timeout=TIMEOUT
        )
    assert done.returncode == 1
    assert done.stderr.startswith(f"CommandError: METRICS: {complaint}")
    assert not (tmp_path / "home").exists()


def test_another_server_says_that_metrics_has_no_effect():
    environment = {**os.environ, "METRICS": "9100"}
    done = subprocess.run(
        [sys.executable, "-c", "import healthcare.wsgi"], cwd=settings.BASE_DIR, env=environment,
        capture_output=True, text=True, timeout=TIMEOUT, check=True,
    )  # fmt: skip
    assert "METRICS has no effect" in done.stderr
