"""Bodies that arrive slowly, not at all or in part: they occupy no thread that answers, and have a deadline."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count

import pytest

from healthcare.server.handler import MAX_WAITING_BODIES
from healthcare.tests.live import TIMEOUT, Answer, LiveServer, parse, serving

pytestmark = pytest.mark.slow

BODY_SECONDS = 20
LOGIN = json.dumps({"username": "nobody", "password": "wrong"}).encode()


@pytest.fixture(scope="module")
def server(live_server_process: LiveServer) -> Iterator[LiveServer]:
    with serving(live_server_process.database_url, migrated=True, BODY_SECONDS=str(BODY_SECONDS)) as started:
        yield started


class SlowClient:
    """A client that has sent its headers and one byte of its body."""

    def __init__(self, server: LiveServer, *headers: bytes) -> None:
        self.connection = socket.create_connection((server.host, server.port), timeout=TIMEOUT)
        lines = [
            b"POST /api/auth/login/ HTTP/1.1", b"Host: localhost", b"Content-Type: application/json",
            b"Content-Length: %d" % len(LOGIN), *headers, b"", LOGIN[:1],
        ]  # fmt: skip
        self.connection.sendall(b"\r\n".join(lines))

    def read_until_closed(self) -> Answer | None:
        received = b""
        try:
            while block := self.connection.recv(65536):
                received += block
        except ConnectionResetError:
            pass
        return parse(received)


def test_200_slow_bodies_delay_no_other_request_and_end_in_408(server: LiveServer):
    with ExitStack() as connections:
        slow = [SlowClient(server) for _ in range(200)]
        for client in slow:
            connections.enter_context(client.connection)
        started = time.monotonic()
        assert server.call("GET", "/healthz").status == 200
        assert server.call("GET", "/api/doctors/").status == 200
        assert server.call("POST", "/api/auth/login/", LOGIN).status == 401
        assert time.monotonic() - started < BODY_SECONDS, "the requests waited for the slow ones"
        last = slow.pop()
        last.connection.sendall(LOGIN[1:-1])
        time.sleep(0.1)
        last.connection.sendall(LOGIN[-1:])
        assert last.connection.recv(12) == b"HTTP/1.1 401", "a body in several parts is a body"
        for client in slow:
            answer = client.read_until_closed()
            assert answer
            assert (answer.status, answer.headers["Connection"]) == (408, "close")
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.headers["X-Request-Id"] == answer.json["request_id"]
            assert (
                answer.json["detail"] == "The body did not arrive in time; send the request again, all of it at once."
            )


def test_a_drip_of_bytes_does_not_extend_the_deadline(server: LiveServer):
    client = SlowClient(server)
    client.connection.settimeout(0.5)
    started = time.monotonic()
    with client.connection:
        for place in count(1):
            assert time.monotonic() - started < TIMEOUT
            try:
                if client.connection.recv(12) == b"HTTP/1.1 408":
                    break
            except TimeoutError:
                client.connection.sendall(LOGIN[place : place + 1] if place < len(LOGIN) - 1 else b"")
    assert time.monotonic() - started > BODY_SECONDS - 1


def test_more_slow_bodies_than_a_worker_keeps_refuse_the_oldest_one(server: LiveServer):
    with ExitStack() as connections:
        slow = [SlowClient(server) for _ in range(MAX_WAITING_BODIES + 5)]
        for client in slow:
            connections.enter_context(client.connection)
        assert server.call("POST", "/api/auth/login/", LOGIN).status == 401
        answer = slow[0].read_until_closed()
        assert answer
        assert answer.status == 408


def test_a_connection_that_ends_within_the_body_is_answered_400(server: LiveServer):
    client = SlowClient(server)
    with client.connection:
        client.connection.shutdown(socket.SHUT_WR)
        answer = client.read_until_closed()
    if answer:  # the client may be gone for good
        assert (answer.status, answer.json["detail"]) == (
            400,
            "The body is shorter than its Content-Length; send all of it.",
        )
    assert server.call("GET", "/healthz").status == 200


def test_idle_connections_and_half_headers_delay_no_other_request(server: LiveServer):
    with ExitStack() as connections:
        for number in range(1200):
            idle = connections.enter_context(socket.create_connection((server.host, server.port), timeout=TIMEOUT))
            if number % 2:
                idle.sendall(b"GET /healthz HTTP/1.1\r\nHo")
        started = time.monotonic()
        assert server.call("GET", "/healthz").status == 200
        assert time.monotonic() - started < 10, "the request waited until the others were closed"
