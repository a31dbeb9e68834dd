"""What a proxy does when a server behind it dies, hangs or cannot be reached."""

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import quote

import pytest

from healthcare.tests.live import TIMEOUT, LiveServer, free_port
from healthcare.tests.proxies.proxy import HOST, RECIPES, Proxy, program, request, running_proxy
from healthcare.tests.proxies.recording_server import RecordingServer, recording_server

pytestmark = pytest.mark.slow

CANARY = "k4n4ryk4n4ry"
REPEATED = {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"}  # RFC 9110 section 9.2.2
REPEATED_BY = {"nginx": REPEATED, "haproxy": REPEATED, "caddy": REPEATED - {"PUT"}}


@contextmanager
def behind(proxy_name: str) -> Iterator[tuple[Proxy, RecordingServer, RecordingServer]]:
    """The proxy in front of two recording servers."""
    with ExitStack() as stack:
        one, two = (stack.enter_context(recording_server()) for _ in range(2))
        yield stack.enter_context(running_proxy(proxy_name, one.port, two.port)), one, two


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH"])
def test_a_request_that_may_have_been_executed_is_repeated_only_if_it_may_be(proxy_name: str, method: str) -> None:
    body = {"name": "Ana"} if method in {"POST", "PUT", "PATCH"} else None
    with behind(proxy_name) as (proxy, one, two):
        one.dying = True
        statuses = []
        for _ in range(4):  # by turns, so that the dying server gets some of them
            answer = proxy.send(request(method, "/api/patients/", body))
            assert answer
            statuses.append(answer.status)
        received = [len(one.requests), len(two.requests)]
    assert received[0] > 0, "the test shows nothing"
    bodies = [sent for head, sent in one.requests + two.requests]
    assert set(bodies) == {json.dumps(body).encode() if body else b""}
    if method in REPEATED_BY[proxy_name]:
        assert statuses == [200] * 4
        assert received[1] == 4
    else:
        assert sum(received) == 4, "a request was sent twice"
        assert sorted(statuses) == [200] * received[1] + [502] * received[0]


def test_haproxy_repeats_a_post_with_an_idempotency_key(proxy_name: str) -> None:
    with behind(proxy_name) as (proxy, one, two):
        one.dying = True
        raw = request("POST", "/api/patients/", {"name": "Ana"}, b"Idempotency-Key: 7b1c")
        statuses = [answer.status for answer in (proxy.send(raw) for _ in range(4)) if answer]
    if proxy_name == "haproxy":
        assert statuses == [200] * 4
        assert len(two.requests) == 4
    else:
        assert len(one.requests) + len(two.requests) == 4
    assert {body for _, body in one.requests + two.requests} == {b'{"name": "Ana"}'}


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_a_request_that_could_not_be_sent_goes_to_the_other_server(proxy_name: str, method: str) -> None:
    body = {"name": "Ana"} if method in {"POST", "PATCH"} else None
    with recording_server() as one, running_proxy(proxy_name, free_port(), one.port) as proxy:
        for _ in range(6):
            answer = proxy.send(request(method, "/api/patients/", body))
            assert answer
            assert answer.status == 200, (answer.body, proxy.output())
        assert len(one.requests) == 6


def test_errors_of_the_proxy_are_problems_and_its_log_names_nobody(proxy_name: str) -> None:
    path = f"/api/patients/?search={CANARY}"
    with behind(proxy_name) as (proxy, one, two):
        one.dying = two.dying = True
        with running_proxy(proxy_name, free_port(), free_port()) as unconnected:
            for failing in (proxy, unconnected):
                for method in ("GET", "POST"):
                    lines = [f"X-Secret: {CANARY}".encode(), f"Cookie: sessionid={CANARY}".encode()]
                    answer = failing.send(request(method, path, {"name": CANARY}, *lines, token=CANARY))
                    assert answer
                    assert answer.status in {502, 503}
                    assert answer.headers["Content-Type"] == "application/problem+json"
                    assert answer.headers["Cache-Control"] == "no-store"
                    assert answer.json.keys() == {"type", "title", "status", "detail", "request_id"}
                    assert (answer.json["type"], answer.json["status"]) == ("about:blank", answer.status)
                    assert answer.json["request_id"] == answer.headers["X-Request-Id"]
                failing.exchange(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nX y: {CANARY}\r\n\r\n".encode())
                failing.exchange(
                    f"GET /{CANARY}{'a' * 50_000} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()
                )
            logs = proxy.output() + unconnected.output()
    assert "502" in logs or "refused" in logs, "the proxy logs nothing of it"
    assert CANARY not in logs


def test_answers_of_a_busy_server_pass_unchanged(proxy_name: str) -> None:
    body = b'{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"d","request_id":"r"}'
    head = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Type: application/problem+json\r\n"
    busy = head + b"X-Request-Id: r\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with behind(proxy_name) as (proxy, one, two):
        one.answer_bytes = two.answer_bytes = busy
        for method in ("GET", "POST", "PUT"):
            answer = proxy.send(request(method, "/api/patients/", {}))
            assert answer
            assert (answer.status, answer.body) == (503, body)
            assert answer.headers.get_all("Retry-After") == ["7"]
            assert answer.headers.get_all("X-Request-Id") == ["r"]
        assert len(one.requests) + len(two.requests) == 3, "a busy service gets more requests"


def test_a_client_that_breaks_its_requests_takes_no_server_out(proxy_name: str) -> None:
    """Failures that clients cause must not count as those of the server."""
    broken = [
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"Content-Length: 30000\r\n\r\n{", b"Content-Length: 300000\r\n\r\n" + b" " * 100_000,
    ]  # fmt: skip
    start = f"POST /api/patients/ HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n".encode()
    with behind(proxy_name) as (proxy, _, _):
        for _ in range(3):
            for rest in broken:
                with proxy.connect() as connection:
                    connection.sendall(start + rest)
            answer = proxy.call("GET", "/api/doctors/")
            assert answer.status == 200, (answer.body, proxy.output())


def test_a_page_of_a_long_search_fits(proxy: Proxy) -> None:
    """Its Link header has the search twice. An answer that a proxy cannot take counts as the server's failure."""
    token, name = proxy.register()[1]["access"], " ".join(["\ud638\uc219\ud76c\uc218"] * 40)[:199]
    for _ in range(3):
        assert proxy.call("POST", "/api/patients/", {"name": name}, token).status == 201
    first = proxy.call("GET", f"/api/patients/?limit=1&search={quote(name)}", None, token)
    [target] = re.findall(r"<https://[^/]+([^>]+)>", first.headers["Link"])
    second = proxy.call("GET", target, None, token)
    assert (second.status, len(second.json)) == (200, 1)
    assert len(second.headers["Link"]) > 3000


@pytest.mark.long
def test_an_idle_connection_is_closed_by_the_proxy_before_the_server_closes_it(application: LiveServer) -> None:
    """A request on a connection that the server is closing is lost. All proxies at once, since it takes 12 seconds."""
    get = f"GET /healthz HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    with ExitStack() as stack:
        direct = stack.enter_context(socket.create_connection(("127.0.0.1", application.port), TIMEOUT))
        direct.sendall(get)
        assert direct.recv(65536).startswith(b"HTTP/1.1 200")
        recorders = {name: stack.enter_context(recording_server()) for name in RECIPES if program(name)}
        for name, recorder in recorders.items():
            proxy = stack.enter_context(running_proxy(name, recorder.port, recorder.port))
            client = stack.enter_context(proxy.connect())
            client.sendall(get)
            assert client.recv(12) == b"HTTP/1.1 200"
        time.sleep(12)
        direct.sendall(get)
        assert direct.recv(65536).startswith(b"HTTP/1.1 200"), "the application closes idle connections earlier"
        idle = {name: recorder.seconds_idle for name, recorder in recorders.items()}
    assert all(seconds and max(seconds) < 12 for seconds in idle.values()), idle
