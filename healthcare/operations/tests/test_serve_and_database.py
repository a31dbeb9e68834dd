"""`manage.py serve` and a database that is not there yet, lacks migrations, or never will be there."""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from healthcare.embedded import locks
from healthcare.embedded.home import Home, resolve_home
from healthcare.embedded.tests.harness import ServerUnderTest, copy_data, stop_everything
from healthcare.operations.tests.calls import LOGIN, PASSWORD, execute, failed_checks, is_unavailable, wait_for_checks
from healthcare.project import PROJECT
from healthcare.tests.live import LiveServer, free_port, own_database, url_of
from healthcare.tests.memory_folder import temporary_folder
from healthcare.tests.postgres import SeparatePostgres, separate_postgres

pytestmark = pytest.mark.slow

TIMEOUT = 120


class Serve:
    """A `manage.py serve` process on a database. `lines` is what it has printed so far."""

    def __init__(self, database_url: str, *arguments: str) -> None:
        self.port = free_port()
        environment = {**os.environ, "DATABASE_URL": database_url, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "serve", str(self.port), *arguments],
            cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.server = LiveServer("127.0.0.1", self.port, database_url, environment)
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self) -> None:
        assert self.process.stdout
        with self.process.stdout:
            self.lines += iter(self.process.stdout.readline, "")

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + TIMEOUT
        while text not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        status = self.process.wait(TIMEOUT)
        self.reader.join()
        assert "Traceback" not in self.output, self.output
        return status


@pytest.fixture
def serve() -> Iterator[Any]:
    started: list[Serve] = []

    def start(database_url: str, *arguments: str) -> Serve:
        started.append(Serve(database_url, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.end()


@pytest.fixture
def empty_database(db: None) -> Iterator[str]:
    with own_database() as name:
        yield url_of(name)


def test_it_waits_for_a_server_that_is_not_there_yet(serve: Any, migrated_home: Home) -> None:
    with separate_postgres(migrated_home) as postgres:
        postgres.stop()
        serving = serve(postgres.url)
        serving.wait_for("Waiting for PostgreSQL (")
        postgres.start()
        serving.wait_for("Stop with Ctrl-C")
        assert serving.server.call("GET", "/api/doctors/").status == 200
        assert serving.end() == 0


def test_it_waits_for_an_embedded_server_that_is_stopping(serve: Any, migrated_home: Home) -> None:
    with temporary_folder() as folder:
        under_test = ServerUnderTest(folder / "home")
        home = resolve_home(under_test.home)
        copy_data(migrated_home, home)
        lock = locks.open_lock(home.clients_lock, home.account)
        fcntl.flock(lock, fcntl.LOCK_EX)  # as the supervisor does
        serving = serve(f"embedded://{home.folder}")
        serving.wait_for("Waiting for PostgreSQL…")
        os.close(lock)
        serving.wait_for("Stop with Ctrl-C")
        assert serving.end() == 0
        stop_everything(under_test)


def test_as_the_first_process_of_a_container_it_ends_on_sigterm_while_it_waits() -> None:
    unshare = [str(shutil.which("unshare")), "--user", "--map-root-user", "--pid", "--fork"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this account may create no namespace of processes")
    with subprocess.Popen(
        [*unshare, sys.executable, "manage.py", "serve", str(free_port())],
        cwd=PROJECT, env={**os.environ, "DATABASE_URL": f"postgres://nobody@127.0.0.1:{free_port()}/nothing"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        assert "Connecting" in process.stdout.readline()
        [first] = psutil.Process(process.pid).children()
        first.terminate()
        _, printed = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, printed) == (128 + signal.SIGTERM, "manage.py: ended by SIGTERM.\n")


@pytest.fixture
def password_server(migrated_home: Home) -> Iterator[SeparatePostgres]:
    """A server that asks for the password `right`."""
    with separate_postgres(migrated_home) as started:
        execute(started.url, "ALTER ROLE postgres PASSWORD 'right'")
        (started.home.data / "pg_hba.conf").write_text("local all all scram-sha-256\n")
        started.stop()
        started.start()
        yield started


@pytest.mark.parametrize(
    ("password", "name"), [(":wrong", "healthcare"), ("", "healthcare"), (":right", "gone")], ids=str
)
def test_what_waiting_does_not_heal_ends_it_at_once_in_one_sentence(
    serve: Any, password_server: SeparatePostgres, password: str, name: str
) -> None:
    url = password_server.url.replace("postgres@", f"postgres{password}@").replace("/healthcare?", f"/{name}?")
    serving = serve(url)
    assert serving.process.wait(TIMEOUT) == 1
    serving.end()
    assert "Waiting" not in serving.output
    assert serving.lines[-1].startswith("manage.py: the database that DATABASE_URL names cannot be reached: ")
    assert len(serving.lines) == 2, serving.output


def test_an_unknown_option_in_the_url_is_refused_in_one_sentence(serve: Any, live_database: str) -> None:
    serving = serve(f"{live_database}&sslmod=require")
    assert serving.process.wait(TIMEOUT) == 1
    serving.end()
    assert serving.lines == [
        "manage.py: DATABASE_URL has a parameter that libpq does not know; write "
        "DATABASE_URL=postgres://user:password@host:5432/healthcare, or unset it for the embedded PostgreSQL.\n"
    ]


def test_it_serves_a_database_without_migrations_and_is_not_ready(serve: Any, empty_database: str) -> None:
    serving = serve(empty_database, "--no-migrate")
    serving.wait_for("Stop with Ctrl-C")
    assert re.search(r"The database lacks \d+ migrations", serving.output)
    server = serving.server
    assert server.call("GET", "/healthz").status == 200
    assert failed_checks(server)[-1] == "migrations"
    wrong = {path: server.call("GET", path).status for path in ("/api/doctors/", "/admin/", "/api/auth/me/")}
    assert wrong == {"/api/doctors/": 503, "/admin/": 302, "/api/auth/me/": 401}
    assert is_unavailable(server.call("POST", LOGIN, {"username": "x", "password": PASSWORD}))
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
        cwd=PROJECT, env=serving.server.environment, check=True,
    )  # fmt: skip
    wait_for_checks(server)
    assert server.call("GET", "/api/doctors/").status == 200
    assert serving.end() == 0


def test_two_hosts_that_start_at_once_both_serve(serve: Any, migrated_home: Home) -> None:
    with separate_postgres(migrated_home) as postgres:
        # No other migration depends on it, and it can be done again: it replaces a trigger.
        execute(postgres.url, "DELETE FROM django_migrations WHERE (app, name) = ('mappings', '0016_owner_write')")
        both = [serve(postgres.url), serve(postgres.url)]
        for serving in both:
            serving.wait_for("Stop with Ctrl-C")
            assert serving.server.call("GET", "/readyz").status == 200
        assert [serving.end() for serving in both] == [0, 0]
