"""What a client claims in headers, through a proxy: its address, its protocol, its request id, its host."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from healthcare.tests.live import Answer, LiveServer
from healthcare.tests.proxies.proxy import HOST, Proxy, request, running_proxy
from healthcare.tests.proxies.recording_server import RecordingServer, recording_server

pytestmark = pytest.mark.slow

FORGED = [
    b"X-Forwarded-For: 203.0.113.66", b"x-forwarded-for: 203.0.113.66", b"X_Forwarded_For: 203.0.113.66",
    b"X-Forwarded_For: 203.0.113.66", b"X-Forwarded-Proto: https", b"X-FORWARDED-PROTO: https",
    b"X_Forwarded_Proto: https", b"X-Request-Id: forged", b"x-request-id: forged", b"X_Request_Id: forged",
    b"Traceparent: 00-f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0-f0f0f0f0f0f0f0f0-01", b"tracestate: forged=1",
    b"traceparent: 00-f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0-f0f0f0f0f0f0f0f0-01", b"trace_parent: forged",
    b"Forwarded: for=203.0.113.66;proto=https;host=forged.example", b"Upgrade: forged",
]  # fmt: skip
# A server may drop the headers that Connection names (RFC 9110 section 7.6.1): nobody must name those of the proxy.
UNNAMED = b"Connection: close, X-Forwarded-For, X-Forwarded-Proto, X-Request-Id"


@pytest.fixture(scope="module")
def recorder() -> Iterator[RecordingServer]:
    with recording_server() as server:
        yield server


@pytest.fixture(scope="module")
def recorded(proxy_name: str, recorder: RecordingServer) -> Iterator[Proxy]:
    """The proxy in front of the recording server."""
    with running_proxy(proxy_name, recorder.port, recorder.port) as started:
        yield started


@pytest.mark.parametrize("lines", [[], FORGED, [*FORGED, UNNAMED], FORGED[::-1]])
def test_the_proxy_sets_what_the_application_believes(
    recorded: Proxy, recorder: RecordingServer, lines: list[bytes]
) -> None:
    raw = request("GET", "/api/doctors/", None, *lines)
    assert recorded.send(raw, secure=False, source="127.0.0.7")
    assert recorder.values("x-forwarded-for") == ["127.0.0.7"]
    assert recorder.values("x-forwarded-proto") == ["http"]
    [request_id] = recorder.values("x-request-id")
    assert re.fullmatch(r"[A-Za-z0-9-]{32,64}", request_id)
    for name in ("forwarded", "traceparent", "tracestate", "upgrade"):
        assert recorder.values(name) == []
    assert recorder.values("connection") in ([], ["close"], ["keep-alive"], ["Upgrade"])
    head = recorder.requests[-1][0].lower()
    assert b"forged" not in head
    assert b"203.0.113.66" not in head
    assert not re.search(rb"^[a-z-]*_", head.partition(b"\r\n")[2], re.MULTILINE), "a header with an underscore"
    assert recorded.send(request("GET", "/api/doctors/", None, *lines))
    assert recorder.values("x-forwarded-proto") == ["https"]
    assert recorder.values("x-request-id") != [request_id]


INNER = {
    "nginx": {
        "X-Forwarded-For $remote_addr": "X-Forwarded-For $proxy_add_x_forwarded_for",
        "X-Forwarded-Proto $scheme": "X-Forwarded-Proto $http_x_forwarded_proto",
    },
    "caddy": {"header_up -Forwarded\n": "header_up -Forwarded\n\t\ttrusted_proxies private_ranges\n"},
    "haproxy": {
        "http-request set-header X-Forwarded-For %[src]": "option forwardfor",
        "    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]\n": "",
    },
}


def test_of_two_proxies_the_inner_one_adds_an_entry(proxy_name: str, recorder: RecordingServer) -> None:
    with (
        running_proxy(proxy_name, recorder.port, recorder.port, replacing=INNER[proxy_name]) as inner,
        running_proxy(proxy_name, inner.port, inner.port) as edge,
    ):
        assert edge.send(request("GET", "/api/doctors/", None, *FORGED))
    addresses = ",".join(recorder.values("x-forwarded-for")).replace(" ", "")
    assert addresses == "127.0.0.1,127.0.0.1"
    assert recorder.values("x-forwarded-proto") == ["https"]


def test_a_session_has_the_address_of_the_connection(proxy: Proxy) -> None:
    account, _ = proxy.register()
    credentials = {"username": account["username"], "password": "StrongPass123"}
    tokens = proxy.send(request("POST", "/api/auth/login/", credentials, *FORGED), source="127.0.0.9")
    assert tokens
    sessions = proxy.call("GET", "/api/auth/sessions/", None, tokens.json["access"])
    assert {session["address"] for session in sessions.json} == {"127.0.0.1", "127.0.0.9"}


def test_a_request_id_of_the_client_reaches_neither_answer_nor_log(proxy: Proxy, application_log: Path) -> None:
    answer = proxy.send(request("GET", "/api/nothing/", None, *FORGED))
    assert answer
    [request_id] = answer.headers.get_all("X-Request-Id") or []
    assert answer.json["request_id"] == request_id
    log = application_log.read_text()
    assert request_id in log
    assert "forged" not in log
    assert "f0f0f0f0" not in log
    assert "203.0.113.66" not in log


@pytest.mark.parametrize("lines", [[], FORGED, [b"X_Forwarded_Proto: https"]])
def test_a_call_over_plain_http_is_refused_whatever_it_claims(proxy: Proxy, lines: list[bytes]) -> None:
    answer = proxy.send(request("POST", "/api/auth/login/", {"username": "a", "password": "b"}, *lines), secure=False)
    assert answer
    assert (answer.status, answer.json["detail"]) == (403, "Use https:// for every call.")
    page = proxy.send(request("GET", "/admin/", None, *lines), secure=False)
    assert page
    assert (page.status, page.headers["Location"]) == (301, f"https://{HOST}/admin/")


# What a proxy may set itself, or what differs between two answers.
OF_THE_CONNECTION = {"connection", "date", "expires", "keep-alive", "server", "x-request-id", "set-cookie",
                     "content-length", "transfer-encoding", "accept-ranges"}  # fmt: skip


def sorted_headers(answer: Answer) -> list[tuple[str, str]]:
    every = [(name.lower(), value) for name, value in answer.headers.items()]
    compressible = ("vary", "Accept-Encoding")
    return sorted(header for header in every if header[0] not in OF_THE_CONNECTION and header != compressible)


@pytest.mark.parametrize("path", ["/api/doctors/", "/api/nothing/", "/admin/login/", "/static/admin/css/base.css"])
def test_headers_of_the_application_arrive_unchanged_and_once(proxy: Proxy, application: LiveServer, path: str) -> None:
    direct = application.call("GET", path, Host=HOST, X_Forwarded_Proto="https")
    answer = proxy.call("GET", path)
    assert sorted_headers(answer) == sorted_headers(direct)
    assert answer.headers.get_all("Strict-Transport-Security") == ["max-age=31536000"]
    assert len(answer.headers.get_all("X-Request-Id") or []) == 1


@pytest.mark.parametrize("host", ["forged.example", "127.0.0.1", "localhost", "", f"{HOST}.", f"{HOST}@forged.example"])
def test_another_host_is_refused(proxy: Proxy, host: str) -> None:
    raw = request("GET", "/api/doctors/").replace(f"Host: {HOST}".encode(), f"Host: {host}".encode())
    lines = raw.replace(b"\r\n\r\n", f"\r\nX-Forwarded-Host: {HOST}\r\n\r\n".encode())
    answer = proxy.send(lines)
    assert answer is None or answer.status == 400 or (host == f"{HOST}." and answer.status == 200), answer


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "//metrics", "/api/../metrics", "/%6detrics"])
def test_metrics_are_not_published(proxy: Proxy, path: str) -> None:
    answer = proxy.call("GET", path)
    assert answer.status in {308, 404}, answer.body
    assert b"healthcare_" not in answer.body


def test_links_name_the_published_address(proxy: Proxy) -> None:
    token = proxy.register()[1]["access"]
    for name in ("Ana", "Bea"):
        assert proxy.call("POST", "/api/patients/", {"name": name}, token).status == 201
    answer = proxy.call("GET", "/api/patients/?limit=1", None, token)
    assert answer.headers["Link"].startswith(f"<https://{HOST}/api/patients/?")


def test_http_2_is_served(proxy: Proxy) -> None:
    arguments = ["--http2", "--cacert", str(proxy.folder / "certificate.pem"), "--silent", "--show-error"]
    target = ["--resolve", f"{HOST}:{proxy.secure_port}:127.0.0.1", f"https://{HOST}:{proxy.secure_port}/api/doctors/"]
    form = ["--output", str(proxy.folder / "received"), "--write-out", "%{http_version} %{response_code}"]
    done = subprocess.run(["curl", *arguments, *form, *target], capture_output=True, text=True, check=True)
    assert done.stdout == "2 200"
