"""The database stops while a server is running, and starts again."""

import http.client
from collections.abc import Iterator
from functools import partial
from typing import Any

import psycopg2
import pytest

from healthcare.embedded.home import Home
from healthcare.tests.concurrent_calls import call_concurrently
from healthcare.tests.live import TIMEOUT, Answer, LiveServer, serving
from healthcare.tests.postgres import SeparatePostgres, separate_postgres

pytestmark = pytest.mark.slow

PATIENTS, LOGIN = "/api/patients/", "/api/auth/login/"
STAFF = {"Cookie": "sessionid=0123456789abcdef0123456789abcdef"}  # makes the admin query for a session
CALLS: list[tuple[str, str, Any, dict[str, str]]] = [
    ("GET", PATIENTS, None, {}),
    ("POST", PATIENTS, {"name": "X"}, {}),
    ("POST", PATIENTS, {"name": "X"}, {"Idempotency-Key": "1"}),
    ("POST", LOGIN, {"username": "x", "password": "x"}, {}),
    ("POST", "/api/auth/register/", {"name": "X", "email": "x@example.org", "password": "StrongPass123"}, {}),
    ("GET", "/api/doctors/", None, {}),
    ("GET", "/admin/", None, STAFF),
    ("GET", "/admin/patients/patient/", None, STAFF),
]


@pytest.fixture(scope="module")
def postgres(migrated_home: Home) -> Iterator[SeparatePostgres]:
    with separate_postgres(migrated_home) as started:
        yield started


@pytest.fixture(scope="module")
def server(postgres: SeparatePostgres) -> Iterator[LiveServer]:
    with serving(postgres.url, migrated=True) as started:
        yield started


@pytest.fixture(scope="module")
def token(server: LiveServer) -> str:
    return str(server.register()[1]["access"])


def call_every_thread(server: LiveServer, token: str) -> list[Answer]:
    """Send more concurrent calls than the server has threads, so that every thread has used its connection."""
    return call_concurrently(*[partial(server.call, "GET", PATIENTS, token=token)] * 16)


def test_every_route_answers_503_during_an_outage_and_works_at_the_first_request_after_it(
    postgres: SeparatePostgres, server: LiveServer, token: str
) -> None:
    assert {answer.status for answer in call_every_thread(server, token)} == {200}
    postgres.stop()
    for method, path, body, headers in CALLS * 2:
        answer = server.call(method, path, body, token, **headers)
        assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json"), (method, path)
        assert int(answer.headers["Retry-After"]) > 0
        assert set(answer.json) == {"type", "title", "status", "detail", "request_id"}
    postgres.start()
    assert server.call("GET", PATIENTS, token=token).status == 200
    assert {answer.status for answer in call_every_thread(server, token)} == {200}


def test_threads_that_were_idle_during_an_outage_answer_their_first_request(
    postgres: SeparatePostgres, server: LiveServer, token: str
) -> None:
    call_every_thread(server, token)
    postgres.stop()
    postgres.start()
    assert {answer.status for answer in call_every_thread(server, token)} == {200}


def test_a_client_does_not_notice_a_connection_killed_between_two_requests(
    postgres: SeparatePostgres, server: LiveServer, token: str
) -> None:
    client = http.client.HTTPConnection(server.host, server.port, timeout=TIMEOUT)
    call_every_thread(server, token)
    for _ in range(3):
        client.request(
            "POST", PATIENTS, b'{"name":"X"}', {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        )
        answer = client.getresponse()
        assert answer.status == 201, answer.read()
        answer.read()
        assert kill_connections(postgres) > 0
    client.close()


def kill_connections(postgres: SeparatePostgres) -> int:
    connection = psycopg2.connect(postgres.url)
    try:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
        return cursor.rowcount
    finally:
        connection.close()
