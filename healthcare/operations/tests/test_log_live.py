"""The log of a live server in JSON: one object a line, whatever clients send."""

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from healthcare.operations.tests.test_logs import ACCESS_KEYS
from healthcare.tests.crash import eventually
from healthcare.tests.hostile_requests import CANARY, Case, request, send
from healthcare.tests.live import LiveServer, serving

pytestmark = pytest.mark.slow

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
WORD = CANARY.encode()


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server") / "output"


@pytest.fixture(scope="module")
def server(live_server_process: LiveServer, output: Path) -> Iterator[LiveServer]:
    settings: Any = {"LOG_FORMAT": "json", "TRUSTED_PROXIES": "1", "PYTHONWARNINGS": "always", "BODY_SECONDS": "1"}
    with serving(live_server_process.database_url, output=output, migrated=True, **settings) as started:
        while "/healthz" not in output.read_text():  # which the server asks of itself
            time.sleep(0.05)
        yield started
    assert [json.loads(line) for line in output.read_text(encoding="ascii").splitlines()]  # to the end of the server


def lines_since(output: Path, start: int) -> list[dict[str, Any]]:
    text = output.read_bytes()[start:].decode("ascii")
    assert text.endswith("\n") or not text
    assert CANARY not in text
    lines = [json.loads(line) for line in text.split("\n")[:-1]]
    assert all(line["time"].endswith("Z") and line["level"] and line["logger"] for line in lines)
    return lines


def request_lines(output: Path, start: int) -> list[dict[str, Any]]:
    lines = [line for line in lines_since(output, start) if line["logger"] == "healthcare.access"]
    assert all(list(line) == ACCESS_KEYS for line in lines)
    return lines


def next_request_line(output: Path, start: int) -> dict[str, Any]:
    """The line of the one request since then. It may follow the answer."""
    eventually(lambda: b"healthcare.access" in output.read_bytes()[start:])
    [line] = request_lines(output, start)
    return line


HOSTILE = {
    "path": request("GET", f"/{CANARY}/", token=b""),
    "record": request("GET", f"/api/patients/{CANARY}/?name={CANARY}", token=b""),
    "newline in path": request("GET", f"/{CANARY}%0a%0d%1b[31m%00%E2%80%A8/", token=b""),
    "path in latin-1": request("GET", f"/{CANARY}%ff/", token=b""),
    "dots": request("GET", f"/api/../{CANARY}//%2e%2e/", token=b""),
    "method": request(CANARY.upper(), "/api/doctors/", token=b""),
    "user agent": request("GET", "/api/doctors/", None, b"User-Agent: " + WORD + b"\t\x80\xff", token=b""),
    "long header": request("GET", "/api/doctors/", None, b"Referer: " + WORD * 4000, token=b""),
    "request id": request("GET", "/api/doctors/", None, b"X-Request-Id: a " + WORD, token=b""),
    "request id twice": request(
        "GET", "/api/doctors/", None, b"X-Request-Id: " + WORD, b"X-Request-Id: " + WORD, token=b""
    ),
    "traceparent": request("GET", "/api/doctors/", None, b"Traceparent: 00-" + WORD, token=b""),
    "host": request("GET", "/api/doctors/", token=b"").replace(b"Host: localhost", b"Host: " + WORD + b":x"),
    "forwarded": request("GET", "/api/doctors/", None, b"X-Forwarded-For: " + WORD, token=b""),
    "token": request("GET", "/api/patients/", token=WORD),
    "session": request("GET", "/admin/", None, b"Cookie: sessionid=" + WORD + b"; csrftoken=" + WORD, token=b""),
    "form": request(
        "POST", "/admin/login/", b"username=" + WORD, b"Content-Type: application/x-www-form-urlencoded", token=b""
    ),
    "upload": request("POST", "/admin/login/", WORD, b"Content-Type: multipart/form-data; boundary=" + WORD, token=b""),
    "charset": request("POST", "/api/auth/login/", b"{}", b"Content-Type: a/b; charset=" + WORD, token=b""),
    "body": request("POST", "/api/auth/login/", b'{"' + WORD + b'": "\\ud800"', token=b""),
    "bytes": request("POST", "/api/auth/login/", b"\xff\xfe" + WORD, token=b""),
    "length": request("POST", "/api/auth/login/", None, b"Content-Length: 99999999999", token=b""),
    "unknown account": request(
        "POST", "/api/auth/login/", b'{"username": "%s", "password": "%s"}' % (WORD, WORD), token=b""
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_is_sent_leaves_one_line_that_does_not_repeat_it(server: LiveServer, output: Path, name: str):
    start = output.stat().st_size
    answer = send(server, Case(name, HOSTILE[name], set()), "")
    assert answer
    line = next_request_line(output, start)
    assert line["status"] == answer.status
    assert line["request_id"] == answer.headers["X-Request-Id"]
    assert (line["caller"], line["trace_id"]) == (None, None)
    assert line["bytes"] == len(answer.body)


REFUSED = [b"Referer: a\r\n " + WORD, b"X: \x00" + WORD, WORD, b": " + WORD, b"Content-Length: " + WORD]


@pytest.mark.parametrize("raw", REFUSED)
def test_what_the_server_refuses_before_it_is_a_request_leaves_no_line(server: LiveServer, output: Path, raw: bytes):
    start = output.stat().st_size
    answer = send(server, Case("", request("GET", "/api/doctors/", None, raw, token=b""), set(), bare=True), "")
    assert answer
    assert answer.status == 400
    assert "X-Request-Id" not in answer.headers
    assert lines_since(output, start) == []


@pytest.mark.parametrize(("hang_up", "status"), [(False, 408), (True, 400)])
def test_a_body_that_does_not_arrive_leaves_a_line_with_the_id_of_its_answer(
    server: LiveServer, output: Path, hang_up: bool, status: int
):
    start = output.stat().st_size
    lines = [b"X-Request-Id: from-the-proxy", b"Content-Length: 100"]
    raw = request("POST", "/api/auth/login/", None, *lines, token=b"") + WORD
    answer = send(server, Case("", raw, set(), hang_up=hang_up), "")
    line = next_request_line(output, start)
    assert (line["route"], line["method"], line["status"]) == ("/api/auth/login/", "POST", status)
    assert (line["request_id"], line["path"]) == ("from-the-proxy", None)
    if answer:  # the server may find the connection closed
        assert answer.status == status
        assert answer.headers["X-Request-Id"] == answer.json["request_id"] == "from-the-proxy"
        assert line["bytes"] == len(answer.body)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_health_check_leaves_a_line(server: LiveServer, output: Path, path: str, method: str):
    start = output.stat().st_size
    answer = server.call(method, path, X_Request_Id="from-the-proxy")
    line = next_request_line(output, start)
    assert (line["route"], line["status"], line["method"]) == (path, answer.status, method)
    assert line["request_id"] == answer.headers["X-Request-Id"] == "from-the-proxy"
    assert line["bytes"] == len(answer.body)


def test_the_line_of_a_request_tells_its_ids_its_caller_and_its_size(server: LiveServer, output: Path):
    user, tokens = server.register()
    start = output.stat().st_size
    ids = {"X_Request_Id": "from-the-proxy", "Traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    created = server.call("POST", "/api/patients/", {"name": CANARY}, tokens["access"], **ids)
    read = server.call("GET", f"/api/patients/{created.json['id']}/", None, tokens["access"], **ids)
    refused = server.call("PATCH", f"/api/patients/{created.json['id']}/", {"name": 1}, tokens["access"])
    gone = server.call("DELETE", f"/api/patients/{created.json['id']}/", None, tokens["access"], **ids)
    answers = [created, read, refused, gone]
    lines = request_lines(output, start)
    assert [line["status"] for line in lines] == [201, 200, 400, 204] == [answer.status for answer in answers]
    assert [line["bytes"] for line in lines] == [len(answer.body) for answer in answers]
    assert [line["request_id"] for line in lines] == [answer.headers["X-Request-Id"] for answer in answers]
    assert [line["request_id"] == "from-the-proxy" for line in lines] == [True, True, False, True]
    assert [line["trace_id"] for line in lines] == [TRACE, TRACE, None, TRACE]
    assert [line["route"] for line in lines] == ["/api/patients/", *["/api/patients/{id}/"] * 3]
    assert [line["method"] for line in lines] == ["POST", "GET", "PATCH", "DELETE"]
    assert {line["caller"] for line in lines} == {lines[0]["caller"]} != {None}
    assert str(user["id"]) != lines[0]["caller"]


def test_the_line_of_an_error_of_the_database_has_its_sqlstate(server: LiveServer, output: Path):
    start = output.stat().st_size
    name = f"{CANARY}{uuid.uuid4().hex}"
    account = {"name": "A", "username": name, "email": f"{name}@example.org", "password": "StrongPass123"}
    statuses = [server.call("POST", "/api/auth/register/", account).status for _ in range(2)]
    assert statuses == [201, 400]
    assert [line["sqlstate"] for line in request_lines(output, start)] == [None, "23505"]


def test_a_line_of_the_security_log_names_the_account_as_the_access_log_does(server: LiveServer, output: Path):
    user, tokens = server.register()
    start = output.stat().st_size
    server.call("POST", "/api/auth/login/", {"username": user["username"], "password": CANARY})
    server.call("GET", "/api/patients/", None, tokens["access"])
    [failed] = [line for line in lines_since(output, start) if line["logger"] == "healthcare.security"]
    *_, access = request_lines(output, start)
    assert (failed["level"], failed["message"], failed["account"]) == ("WARNING", "login failed", access["caller"])
