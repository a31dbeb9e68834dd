"""More requests than a worker can run: which wait, which are refused, and which are not run at all."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from django.conf import settings

from healthcare.server.queue import CONCURRENT_HASHING_REQUESTS, CONCURRENT_REQUESTS
from healthcare.tests.crash import eventually
from healthcare.tests.live import TIMEOUT, Answer, LiveServer, parse, serving
from healthcare.tests.superuser import admin_connection

pytestmark = pytest.mark.slow

QUEUE_LENGTH = 3
HOLDING = "healthcare.tests.holding_application:application"
LOGIN = "/api/auth/login/"


class Client:
    """A request that has been sent, and whose answer has not been read."""

    def __init__(self, server: LiveServer, path: str, *headers: str, method: str = "GET", body: bytes = b"") -> None:
        self.connection = socket.create_connection((server.host, server.port), timeout=TIMEOUT)
        if body:
            headers = (*headers, "Content-Type: application/json", f"Content-Length: {len(body)}")
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]
        self.connection.sendall("\r\n".join(lines).encode() + body)

    def answer(self) -> Answer:
        with self.connection:
            received = b"".join(iter(lambda: self.connection.recv(65536), b""))
        answer = parse(received)
        assert answer, "the connection was closed without an answer"
        return answer


class HoldingServer:
    """A server of the holding application, and what that application has run."""

    def __init__(self, folder: Path) -> None:
        self.record, self.release_file, self.output = folder / "record", folder / "release", folder / "output"
        self.record.touch()
        self.live: LiveServer

    def run_paths(self) -> list[str]:
        return self.record.read_text().split()

    def send(self, path: str, *headers: str, method: str = "GET") -> Client:
        return Client(self.live, path, *headers, method=method)

    def hold(self, number: int = CONCURRENT_REQUESTS) -> list[Client]:
        """Occupy the worker with requests, and return when all of them run."""
        before = len(self.run_paths())
        clients = [self.send(f"/hold/{place}") for place in range(number)]
        eventually(lambda: len(self.run_paths()) == before + number)
        return clients

    def release(self) -> None:
        self.release_file.touch()


@contextmanager
def holding(folder: Path, live: LiveServer, queue_length: int = 64, longest_wait: float = 1) -> Iterator[HoldingServer]:
    server = HoldingServer(folder)
    with serving(
        live.database_url,
        HOLDING,
        output=server.output,
        migrated=True,
        RECORD=str(server.record),
        RELEASE=str(server.release_file),
        QUEUE_LENGTH=str(queue_length),
        LONGEST_QUEUE_WAIT=str(longest_wait),
    ) as server.live:
        try:
            yield server
        finally:
            server.release()  # or the server could not stop


@pytest.fixture
def patient_server(tmp_path: Path, live: LiveServer) -> Iterator[HoldingServer]:
    """Requests wait in its queue for as long as a test needs."""
    with holding(tmp_path, live, QUEUE_LENGTH, longest_wait=600) as server:
        yield server


def refusal_lines(output: Path) -> list[str]:
    """The lines of the access log of refused requests."""
    return [
        line for line in output.read_text().splitlines() if " healthcare.access " in line and " status=503 " in line
    ]


def assert_is_refusal(answer: Answer) -> None:
    assert answer.status == 503
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["X-Request-Id"] == answer.json["request_id"]
    assert answer.json["title"] == "Service Unavailable"


def test_the_queue_is_bounded_and_first_in_first_out(patient_server: HoldingServer):
    held = patient_server.hold()
    queued = []
    for place in range(QUEUE_LENGTH):
        queued.append(patient_server.send(f"/queued/{place}"))
        time.sleep(0.2)  # they come over several connections, in any order
    refused = []
    for _ in range(5):
        refused.append(patient_server.send("/refused").answer())
        refused.append(Client(patient_server.live, "/refused", method="POST", body=b"{}").answer())
    for answer in refused:
        assert_is_refusal(answer)
    eventually(lambda: len(refusal_lines(patient_server.output)) == len(refused))
    for line, answer in zip(refusal_lines(patient_server.output), refused, strict=True):
        assert f" bytes={len(answer.body)} " in line
        assert f" request_id={answer.headers['X-Request-Id']} " in line
    assert patient_server.live.call("GET", "/healthz").status == 200
    patient_server.release()
    assert {client.answer().status for client in held} == {200}
    waited = [client.answer() for client in queued]
    assert {answer.status for answer in waited} == {200}
    assert all(int(answer.body) > 0 for answer in waited), "the time in the queue is in the WSGI environment"
    run = patient_server.run_paths()[len(held) :]
    assert sorted(run) == [f"/queued/{place}" for place in range(QUEUE_LENGTH)]
    assert patient_server.send("/afterwards").answer().body == b"0"


def test_a_refusal_has_the_headers_of_every_other_problem(patient_server: HoldingServer, live: LiveServer):
    """So a page of an allowed origin can read it."""
    origins = [f"Origin: {settings.CORS_ALLOWED_ORIGINS[0]}", "Origin: https://other.example", "X-Origin: none"]
    waiting = patient_server.hold() + [patient_server.send("/queued") for _ in range(QUEUE_LENGTH)]
    time.sleep(0.5)  # for the server to take them
    for origin in origins:
        refused, other = patient_server.send("/refused", origin).answer(), Client(live, "/nothing/", origin).answer()
        assert (refused.status, other.status) == (503, 404)
        own = {"retry-after", "x-request-id", "content-length", "content-security-policy", "date", "connection"}
        headers = [
            {name.lower(): value for name, value in answer.headers.items() if name.lower() not in own}
            for answer in (refused, other)
        ]
        assert headers[0] == headers[1]
    assert refused.headers["Vary"] == "origin"
    with patient_server.send("/refused", method="HEAD").connection as head:
        assert b"".join(iter(lambda: head.recv(65536), b"")).endswith(b"\r\n\r\n")
    patient_server.release()
    assert {client.answer().status for client in waiting} == {200}


def test_no_request_is_run_whose_client_has_closed_the_connection(patient_server: HoldingServer):
    held = patient_server.hold()
    for _ in range(QUEUE_LENGTH - 1):
        patient_server.send("/gone").connection.close()
    time.sleep(1)  # for the server to notice
    queued = patient_server.send("/queued")
    time.sleep(0.5)  # for the server to take it
    patient_server.release()
    assert {client.answer().status for client in [*held, queued]} == {200}
    assert patient_server.run_paths()[len(held) :] == ["/queued"]


def test_no_request_waits_longer_than_a_second(tmp_path: Path, live: LiveServer):
    with holding(tmp_path, live) as server:
        held = server.hold()
        queued = [server.send("/late") for _ in range(20)]
        for client in queued:  # while the others still run
            assert_is_refusal(client.answer())
        server.release()
        assert {client.answer().status for client in held} == {200}
        assert "/late" not in server.run_paths()


def test_many_refusals_are_all_answered(tmp_path: Path, live: LiveServer):
    with holding(tmp_path, live) as server, ExitStack() as connections:
        held = server.hold()
        clients = [server.send("/refused") for _ in range(400)]
        for client in clients:
            connections.enter_context(client.connection)
        for client in clients:
            assert_is_refusal(client.answer())
        server.release()
        assert {client.answer().status for client in held} == {200}
        assert server.send("/afterwards").answer().status == 200


def test_requests_that_hash_a_password_leave_room_for_others(patient_server: HoldingServer):
    logins = [patient_server.send(LOGIN, method="POST") for _ in range(CONCURRENT_HASHING_REQUESTS + QUEUE_LENGTH)]
    eventually(lambda: len(patient_server.run_paths()) == CONCURRENT_HASHING_REQUESTS)
    for _ in range(5):  # they pass the logins that wait
        assert patient_server.send("/other").answer().status == 200
    assert patient_server.run_paths().count(LOGIN) == CONCURRENT_HASHING_REQUESTS
    patient_server.release()
    assert {client.answer().status for client in logins} == {200}
    assert patient_server.run_paths().count(LOGIN) == len(logins)


def test_nothing_is_recorded_for_clients_that_have_gone(live: LiveServer):
    """With the project's application: 4 requests wait for a table lock, 40 wait behind them and lose their clients."""
    user, tokens = live.register()
    token = f"Authorization: Bearer {tokens['access']}"
    assert live.call("GET", "/api/patients/", token=tokens["access"]).status == 200
    database = live.database_url.split("/")[-1].split("?")[0]
    with admin_connection(database) as admin:
        admin.autocommit = False
        cursor = admin.cursor()
        count = "SELECT count(*) FROM audit_accesslog WHERE actor = %s"
        cursor.execute(count, [user["id"]])
        before = cursor.fetchone()[0]
        cursor.execute("LOCK TABLE patients_patient IN ACCESS EXCLUSIVE MODE")
        running = [Client(live, "/api/patients/", token) for _ in range(CONCURRENT_REQUESTS)]
        waiting = (
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database "
            "WHERE datname = current_database() AND NOT granted AND relation = 'patients_patient'::regclass"
        )

        def number_waiting() -> int:
            cursor.execute(waiting)
            return int(cursor.fetchone()[0])

        eventually(lambda: number_waiting() == CONCURRENT_REQUESTS)
        for _ in range(40):
            Client(live, "/api/patients/", token).connection.close()
        time.sleep(0.5)  # for the server to take them; they wait there for a second at most
        admin.rollback()
        assert {client.answer().status for client in running} == {200}
        assert live.call("GET", "/api/patients/", token=tokens["access"]).status == 200
        cursor.execute(count, [user["id"]])
        assert cursor.fetchone()[0] == before + CONCURRENT_REQUESTS + 1
        admin.rollback()
    admin.close()


def test_the_limit_of_hashing_requests_is_below_that_of_all():
    assert 0 < CONCURRENT_HASHING_REQUESTS < CONCURRENT_REQUESTS
