"""A real server for tests: granian, in separate processes, on a separate database."""

import http.client
import io
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psutil
import psycopg2
import pytest
from django.conf import settings
from django.db import connection
from django.db.backends.base.creation import TEST_DATABASE_PREFIX

from accounts.tests.smtp_server import SMTPServer, smtp_server
from healthcare.tests.superuser import admin_connection

TIMEOUT = 120  # seconds: a server on a busy machine; one that hangs is found all the same
APPLICATION = "healthcare.wsgi:application"


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


def answers_ok(port: int, path: str) -> bool:
    """Whether a server on this port of 127.0.0.1 answers a GET with 200."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        client.request("GET", path)
        return client.getresponse().status == 200
    except OSError:
        return False
    finally:
        client.close()


def parse(received: bytes) -> Answer | None:
    if not received:
        return None
    response = http.client.HTTPResponse(Recorded(received))  # type: ignore[arg-type]
    response.begin()
    return Answer(response.status, response.headers, response.read())


class Recorded:
    """A received answer, which `http.client` reads in place of a socket."""

    def __init__(self, received: bytes) -> None:
        self.received = received

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.received)


@dataclass
class LiveServer:
    host: str
    port: int
    database_url: str
    environment: dict[str, str] = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def call(self, method: str, path: str, body: Any = None, token: str = "", **headers: str) -> Answer:
        """Send one request over a new connection. A `bytes` body is sent as it is, any other as JSON."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        client = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT)
        try:
            client.request(method, path, body=body, headers=sent)
            response = client.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            client.close()

    def register(self, name: str = "") -> tuple[dict[str, Any], dict[str, str]]:
        """Register a user and log in. Return both answers: the user and the pair of tokens."""
        name = name or f"user{uuid.uuid4().hex[:12]}"
        account = {"name": name, "username": name, "email": f"{name}@example.org", "password": "StrongPass123"}
        user = self.call("POST", "/api/auth/register/", account)
        tokens = self.call("POST", "/api/auth/login/", {"username": name, "password": account["password"]})
        assert (user.status, tokens.status) == (201, 200), (user.body, tokens.body)
        return user.json, tokens.json


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def worker_of(live: LiveServer) -> psutil.Process:
    """The only worker: the process that listens on the port and has no child."""
    [found] = {
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.laddr and connection.status == "LISTEN" and connection.laddr.port == live.port and connection.pid
        if not psutil.Process(connection.pid).children()
    }
    return psutil.Process(found)


def server_command(port: int, application: str = APPLICATION) -> list[str]:
    """The command that serves an application as `manage.py serve` serves the project's."""
    return [sys.executable, "-m", "healthcare.tests.serve_application", str(port), application]


def url_of(database: str) -> str:
    """The postgres:// URL of another database of the server that the tests use."""
    parameters = connection.get_connection_params()
    user = quote(str(parameters.get("user") or ""), safe="")
    password = quote(str(parameters.get("password") or ""), safe="")
    query = {name: parameters[name] for name in ("host", "port") if parameters.get(name)}
    return f"postgres://{user}{':' + password if password else ''}@/{database}?{urlencode(query)}"


def wait_until_answering(port: int, process: "subprocess.Popen[bytes]", name: str = "the server") -> None:
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{name} does not answer")


def environment_of(database_url: str) -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "healthcare.tests.settings",
        "DATABASE_URL": database_url,
        "THROTTLE_SCALE": "1000000",
        "ACCESS_TOKEN_MINUTES": "1440",  # the tests of a file share tokens, and may be far apart in a run
        "DRAIN_SECONDS": "0",
    }


def migrate(database_url: str, folder: Path | None = None, **settings_of_it: str) -> None:
    """Migrate the database with the code in the folder, the project's if None."""
    manage = [sys.executable, "-m", "django", "migrate", "--verbosity", "0"]
    environment = environment_of(database_url) | settings_of_it
    subprocess.run(manage, check=True, cwd=folder or settings.BASE_DIR, env=environment)


@contextmanager
def serving(
    database_url: str,
    application: str = APPLICATION,
    *,
    output: Path | None = None,
    migrated: bool = False,
    folder: str = "",
    **settings_of_it: str,
) -> Iterator[LiveServer]:
    """Migrate that database, unless it is `migrated`, and serve it until the block ends.

    What the server prints goes to the file `output` when there is one. `folder` has the code, if not the project's.
    """
    folder = folder or str(settings.BASE_DIR)
    environment = environment_of(database_url) | settings_of_it
    port = free_port()
    if not migrated:
        migrate(database_url, Path(folder), **settings_of_it)
    with output.open("wb") if output else nullcontext() as log:
        process = subprocess.Popen(
            server_command(port, application), cwd=folder, env=environment, stdout=log, stderr=log
        )
    try:
        wait_until_answering(port, process)
        yield LiveServer("127.0.0.1", port, database_url, environment)
    finally:
        process.terminate()
        process.wait(TIMEOUT)


@contextmanager
def own_database(owner: str = "", template: str = "") -> Iterator[str]:
    """Create a database, empty or a copy of the template, and drop it after the block. Yields its name."""
    name, admin = f"live_{uuid.uuid4().hex[:12]}", admin_connection()
    owner = owner or str(connection.get_connection_params().get("user") or "")
    options = (f" TEMPLATE {template}" if template else "") + (f' OWNER "{owner}"' if owner else "")
    admin.cursor().execute(f"CREATE DATABASE {name}{options}")
    try:
        yield name
    finally:
        admin.cursor().execute(f"DROP DATABASE {name} WITH (FORCE)")
        admin.close()


@pytest.fixture(scope="session")
def live_database(django_db_setup: None, django_db_blocker: Any) -> Iterator[str]:
    """The URL of a migrated database for live servers."""
    with migrated_database(django_db_blocker) as url:
        yield url


def renew_server_id(database_url: str) -> None:
    """Give the copy of a database the id of a server of its own (`healthcare.exports.models.ServerId`)."""
    with closing(psycopg2.connect(database_url)) as session, session, session.cursor() as cursor:
        cursor.execute("UPDATE exports_serverid SET value = gen_random_uuid()::text")


@contextmanager
def migrated_database(django_db_blocker: Any) -> Iterator[str]:
    """The URL of a migrated database of its own, for a test that uses the fixture `django_db_setup`."""
    with django_db_blocker.unblock():
        connection.ensure_connection()  # starts PostgreSQL where no test before has needed it
        connection.close()  # a template must have no session
        tests_database = str(connection.settings_dict["NAME"])
        # pytest-django creates it only if a selected test uses it.
        created = tests_database.startswith(TEST_DATABASE_PREFIX)
        template = connection.ops.quote_name(tests_database) if created else ""
        with own_database(template=template) as name:
            url = url_of(name)
            if created:
                renew_server_id(url)
            else:
                migrate(url)
            django_db_blocker.block()
            yield url
            django_db_blocker.unblock()


@pytest.fixture(scope="session")
def live_emails() -> Iterator[SMTPServer]:
    """The server that gets the e-mails of `live_server_process`."""
    with smtp_server() as server:
        yield server


@pytest.fixture(scope="session")
def live_server_process(live_database: str, live_emails: SMTPServer) -> Iterator[LiveServer]:
    settings_of_it: Any = live_emails.settings
    with serving(live_database, migrated=True, **settings_of_it) as server:
        yield server


@pytest.fixture
def live(live_server_process: LiveServer) -> LiveServer:
    """A server shared by the tests of one worker."""
    return live_server_process
