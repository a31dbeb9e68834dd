"""`manage.py serve` as a process, with its signals, its port and its PostgreSQL."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from healthcare.embedded.home import Home, resolve_home
from healthcare.embedded.tests.harness import TIMEOUT, ServerUnderTest, copy_data, eventually, stop_everything
from healthcare.management.commands.serve import parse_worker_count
from healthcare.project import PROJECT
from healthcare.server.address import AddressError, parse_address, reserve_address
from healthcare.server.supervisor import STABLE_AFTER, Restarts
from healthcare.tests.live import Answer, answers_ok, free_port
from healthcare.tests.memory_folder import temporary_folder

pytestmark = pytest.mark.slow

ACCOUNT = {"name": "Alice", "username": "alice", "email": "alice@example.org", "password": "StrongPass123"}


def runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # it has ended since it was listed
        return False


class ServeProcess:
    """A `manage.py serve` process, by default on a free port."""

    def __init__(self, home: Path, *arguments: str, **settings: str) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "serve", *(arguments or [str(self.port)])],
            cwd=PROJECT,
            env={
                **os.environ,
                "DATABASE_URL": f"embedded://{home}",
                "PYTHONUNBUFFERED": "1",
                "DRAIN_SECONDS": "0",
                **settings,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""

    def wait_until_ready(self) -> "ServeProcess":
        assert self.process.stdout
        while "Ctrl-C" not in self.output:
            line = self.process.stdout.readline()
            assert line, self.output
            self.output += line
        return self

    def workers(self) -> list[psutil.Process]:
        return [process for process in psutil.Process(self.process.pid).children() if runs(process)]

    def get(self, path: str, kept: http.client.HTTPConnection | None = None) -> Answer:
        """The answer over a kept connection, or over a new one."""
        client = kept or http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        try:
            client.request("GET", path)
            response = client.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            if client is not kept:
                client.close()

    def answers(self) -> bool:
        return answers_ok(self.port, "/api/doctors/")

    def end(self, number: int = signal.SIGTERM) -> int:
        """The exit status after the signal."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait until the process ends, and return its exit status."""
        output, _ = self.process.communicate(timeout=TIMEOUT)
        self.output += output
        return self.process.returncode


@pytest.fixture
def embedded_server() -> Iterator[ServerUnderTest]:
    with temporary_folder() as folder:
        server = ServerUnderTest(folder / "home")
        yield server
        stop_everything(server)


@pytest.fixture
def serve(embedded_server: ServerUnderTest) -> Iterator[Callable[..., ServeProcess]]:
    started: list[ServeProcess] = []

    def start(*arguments: str, **settings: str) -> ServeProcess:
        started.append(ServeProcess(embedded_server.home, *arguments, **settings))
        return started[-1]

    yield start
    for serving in started:
        if serving.process.poll() is None:
            serving.end()
        assert serving.process.stdout
        serving.process.stdout.close()


@pytest.fixture
def migrated(embedded_server: ServerUnderTest, migrated_home: Home) -> None:
    """Let `serve` find a migrated database, where a test is not about its creation."""
    copy_data(migrated_home, resolve_home(embedded_server.home))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_the_addresses_and_stops_cleanly(
    serve: Callable[..., ServeProcess], embedded_server: ServerUnderTest, number: int
) -> None:
    serving = serve().wait_until_ready()
    url = f"http://127.0.0.1:{serving.port}"
    for line in ("Starting PostgreSQL", "migrations", f"{url}/api/", f"{url}/api/docs/", f"{url}/admin/"):
        assert line in serving.output
    assert serving.answers()
    assert serving.end(number) == 0
    assert embedded_server.stopped()
    assert "Traceback" not in serving.output


@pytest.mark.usefixtures("migrated")
def test_a_request_in_flight_is_answered_before_the_stop(
    serve: Callable[..., ServeProcess], embedded_server: ServerUnderTest
) -> None:
    serving = serve().wait_until_ready()
    body = json.dumps(ACCOUNT).encode()
    client = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=TIMEOUT)
    client.putrequest("POST", "/api/auth/register/")
    client.putheader("Content-Type", "application/json")
    client.putheader("Content-Length", str(len(body)))
    client.putheader("Expect", "100-continue")
    client.endheaders()
    assert client.sock.recv(100).startswith(b"HTTP/1.1 100 ")  # so the worker reads the body already
    client.send(body[:10])
    serving.process.send_signal(signal.SIGTERM)
    time.sleep(1)  # for the workers to hear of it; on a machine so busy that they have not, this shows nothing
    client.send(body[10:])
    response = client.getresponse()
    assert (response.status, json.loads(response.read())["username"]) == (201, "alice")
    client.close()
    assert serving.wait() == 0
    assert embedded_server.stopped()


@pytest.mark.usefixtures("migrated")
def test_a_killed_worker_is_replaced(serve: Callable[..., ServeProcess]) -> None:
    serving = serve().wait_until_ready()
    [worker] = serving.workers()
    worker.kill()
    eventually(lambda: any(one.pid != worker.pid for one in serving.workers()))
    assert eventually(serving.answers)
    assert serving.end() == 0


@pytest.mark.usefixtures("migrated")
def test_nothing_is_left_when_the_command_itself_is_killed(
    serve: Callable[..., ServeProcess], embedded_server: ServerUnderTest
) -> None:
    serving = serve("--workers", "2", "0.0.0.0:" + str(port := free_port()))
    serving.port = port
    serving.wait_until_ready()
    workers = serving.workers()
    assert len(workers) == 2
    assert serving.end(signal.SIGKILL) == -signal.SIGKILL
    eventually(lambda: not any(worker.is_running() for worker in workers))
    eventually(embedded_server.stopped)


def test_two_first_starts_at_once_share_one_database(
    serve: Callable[..., ServeProcess], embedded_server: ServerUnderTest
) -> None:
    both = [serve(), serve()]
    for serving in both:
        assert serving.wait_until_ready().answers()
    assert both[0].end() == 0
    assert both[1].answers()
    assert both[1].end() == 0
    assert embedded_server.stopped()


def test_a_port_in_use_is_reported_in_one_sentence(
    serve: Callable[..., ServeProcess], embedded_server: ServerUnderTest
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        serving = serve(str(other.getsockname()[1]))
        assert serving.process.wait(TIMEOUT) == 1
        serving.end()
    assert re.fullmatch(
        r"CommandError: http://127\.0\.0\.1:\d+ cannot be listened on \(address already in use\); .*\n", serving.output
    )
    assert not embedded_server.home.exists()


@pytest.mark.usefixtures("migrated")
def test_a_second_server_does_not_share_the_port(serve: Callable[..., ServeProcess]) -> None:
    first = serve().wait_until_ready()
    second = serve(str(first.port))
    assert second.process.wait(TIMEOUT) == 1
    assert first.answers()


@pytest.mark.parametrize(
    "address", ["0", "65536", "port", "127.0.0.1:", "::1:8000", "[::1:8000", "300.1.1.1:8000", "203.0.113.7:8000"]
)
def test_an_invalid_address_is_refused_in_one_sentence(address: str) -> None:
    with pytest.raises(AddressError) as refused:
        reserve_address(parse_address(address))
    assert "\n" not in str(refused.value)


def test_an_invalid_address_ends_the_command_before_it_starts_anything(
    serve: Callable[..., ServeProcess], embedded_server: ServerUnderTest
) -> None:
    serving = serve("203.0.113.7:8000")
    assert serving.process.wait(TIMEOUT) == 1
    serving.end()
    assert serving.output.startswith("CommandError: ")
    assert serving.output.count("\n") == 1
    assert not embedded_server.home.exists()


@pytest.mark.parametrize("workers", ["0", "65", "-1", "two"])
def test_an_invalid_number_of_workers_is_refused(workers: str) -> None:
    with pytest.raises(ArgumentTypeError):
        parse_worker_count(workers)


def test_an_invalid_number_of_workers_ends_the_command_before_it_starts_anything(
    serve: Callable[..., ServeProcess], embedded_server: ServerUnderTest
) -> None:
    serving = serve("--workers", "65")
    assert serving.process.wait(TIMEOUT) != 0
    serving.end()
    assert "Traceback" not in serving.output
    assert not embedded_server.home.exists()


@pytest.mark.usefixtures("migrated")
def test_a_server_that_is_told_to_stop_drains_and_a_second_signal_ends_it(
    serve: Callable[..., ServeProcess], embedded_server: ServerUnderTest
) -> None:
    serving = serve(DRAIN_SECONDS="600").wait_until_ready()
    idle = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=TIMEOUT)
    assert serving.get("/readyz", idle).status == 200
    serving.process.send_signal(signal.SIGTERM)
    eventually(lambda: serving.get("/readyz").status == 503)
    ready = serving.get("/readyz", idle)
    idle.close()
    assert ready.json["failed"] == ["draining"]
    assert serving.get("/healthz").status == 200
    for _ in range(3):
        answer = serving.get("/api/doctors/")
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
    assert serving.end() == 1
    assert embedded_server.stopped()


@pytest.mark.usefixtures("migrated")
def test_a_server_that_loses_requests_while_it_stops_does_not_exit_with_0(serve: Callable[..., ServeProcess]) -> None:
    running = serve(DRAIN_SECONDS="60").wait_until_ready()
    [worker] = running.workers()
    running.process.send_signal(signal.SIGTERM)
    eventually(lambda: running.get("/readyz").status == 503)
    worker.kill()
    output = running.output + running.process.communicate(timeout=TIMEOUT)[0]
    assert running.process.returncode == 1
    assert "worker 1 has ended with status -9, and its requests have no answer" in output


def test_every_request_is_answered_until_the_drain_is_over(serve: Callable[..., ServeProcess]) -> None:
    serving = serve(DRAIN_SECONDS="2").wait_until_ready()
    serving.process.send_signal(signal.SIGTERM)
    answered = 0
    while True:
        try:
            assert serving.get("/api/doctors/").status == 200
            answered += 1
            time.sleep(0.05)  # the output of the server is read at its end
        except OSError:
            break
    assert answered > 1
    assert serving.wait() == 0


@pytest.mark.usefixtures("migrated")
def test_a_worker_that_dies_again_and_again_does_not_end_the_others(serve: Callable[..., ServeProcess]) -> None:
    serving = serve("--workers", "2", str(port := free_port()))
    serving.port = port
    serving.wait_until_ready()
    eventually(lambda: len(serving.workers()) == 2)
    healthy, dying = serving.workers()

    def find_replacement() -> list[psutil.Process]:
        return [worker for worker in serving.workers() if worker not in (healthy, dying)]

    for _ in range(3):
        dying.kill()
        [dying] = eventually(find_replacement)
        assert healthy.is_running()
    assert eventually(serving.answers)
    assert serving.end() == 0
    assert "worker 2 has ended with status -9; it is replaced in 2 s" in serving.output


@pytest.mark.usefixtures("migrated")
def test_sighup_replaces_the_workers_and_fails_no_request(serve: Callable[..., ServeProcess]) -> None:
    serving = serve(DRAIN_SECONDS="1").wait_until_ready()
    [old] = serving.workers()
    serving.process.send_signal(signal.SIGHUP)

    def answers_and_is_replaced() -> bool:
        assert serving.get("/readyz").status == 200
        assert serving.get("/api/doctors/").status == 200
        return len(serving.workers()) == 1 and old not in serving.workers()

    eventually(answers_and_is_replaced)
    assert serving.end() == 0
    assert "SIGHUP restarts workers and does not load new code; restart instead" in serving.output


def test_a_server_whose_application_cannot_be_loaded_ends() -> None:
    command = [sys.executable, "-m", "healthcare.tests.serve_application", str(free_port()), "nothing:here"]
    done = subprocess.run(
        command, cwd=PROJECT, env={**os.environ, "DRAIN_SECONDS": "0"}, timeout=TIMEOUT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "worker 1 has ended before it could serve; the server stops" in done.stderr


def test_the_pause_before_a_worker_is_replaced_doubles_with_each_early_death() -> None:
    restarts = Restarts()
    assert [restarts.add(0, lived=1, now=100) for _ in range(8)] == [0, 1, 2, 4, 8, 16, 30, 30]
    assert restarts.add(1, lived=1, now=100) == 0, "another worker"
    assert restarts.add(0, lived=STABLE_AFTER, now=100) == 0, "a later death"
    assert restarts.seconds_until_next(now=90) == 10
    assert sorted(restarts.take_due(now=100)) == [0, 1]
    assert restarts.seconds_until_next(now=100) is None
