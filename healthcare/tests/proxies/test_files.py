"""Imports and exports through a proxy: larger than other bodies, and streamed."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from healthcare.tests.crash import eventually
from healthcare.tests.live import LiveServer, serving
from healthcare.tests.proxies.proxy import APPLICATION_SETTINGS, HOST, Proxy, request, running_proxy
from healthcare.tests.streaming_settings import PART

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
IMPORT, EXPORT = "/api/doctors/import/", "/api/doctors/export/"


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("streams") / "streams"


@pytest.fixture(scope="module")
def streaming(live_database: str, record: Path) -> Iterator[LiveServer]:
    with serving(
        live_database,
        output=None,
        migrated=True,
        **APPLICATION_SETTINGS,
        DJANGO_SETTINGS_MODULE="healthcare.tests.streaming_settings",
        STREAMS=str(record),
    ) as server:
        yield server


@pytest.fixture(scope="module")
def streaming_proxy(proxy_name: str, streaming: LiveServer) -> Iterator[Proxy]:
    with running_proxy(proxy_name, streaming.port, streaming.port) as started:
        yield started


def file_of(size: int, token: str) -> bytes:
    """A file that is read to its end and refused, since its last line is not JSON."""
    return request("POST", IMPORT, b" " * (size - 2) + b"\n{", token=token).replace(
        b"application/json", b"application/x-ndjson"
    )


def test_a_file_of_20_mib_reaches_the_application_and_a_larger_one_does_not(proxy: Proxy) -> None:
    token = proxy.register()[1]["access"]
    for size in (2 * MIB, 20 * MIB):
        answer = proxy.send(file_of(size, token))
        assert answer
        assert answer.status in {400, 413}, answer.body
        assert answer.json["detail"] != "The body is too large; send a smaller one."
    attempts = (proxy.send(file_of(20 * MIB + 1, token)) for _ in range(5))  # see RFC 9112 section 9.6
    refused = next(filter(None, attempts))
    assert refused
    assert (refused.status, refused.json["detail"]) == (413, "The body is too large; send a smaller one.")


def test_an_export_arrives_whole(proxy: Proxy) -> None:
    token = proxy.register()[1]["access"]
    assert proxy.call("POST", "/api/doctors/", {"name": "Dr. Export"}, token).status == 201
    answer = proxy.call("GET", EXPORT, accept_encoding="gzip")
    assert answer.status == 200
    assert "Content-Encoding" not in answer.headers
    assert "Dr. Export" in answer.body.decode()


def ask(asked: str) -> bytes:
    lines = [f"GET {EXPORT} HTTP/1.1", f"Host: {HOST}", "Connection: close", f"X-Stream: {asked}", "", ""]
    return "\r\n".join(lines).encode()


def test_a_stream_that_breaks_has_no_last_chunk(streaming_proxy: Proxy) -> None:
    whole = streaming_proxy.exchange(ask("8 end"))
    assert whole.startswith(b"HTTP/1.1 200 ")
    assert whole.endswith(b"\r\n0\r\n\r\n")
    assert len(whole) > 8 * PART
    broken = streaming_proxy.exchange(ask("8 raise"))
    if streaming_proxy.name != "caddy":  # before 2.8 it ends what has broken off (caddyserver/caddy#5951)
        assert not broken.endswith(b"\r\n0\r\n\r\n")


def test_a_stream_goes_at_the_pace_of_its_client_and_ends_with_it(streaming_proxy: Proxy, record: Path) -> None:
    record.unlink(missing_ok=True)
    with streaming_proxy.connect() as client:
        client.sendall(ask("4000 end"))
        assert client.recv(1024).startswith(b"HTTP/1.1 200 ")
    [made] = eventually(lambda: re.findall(r"closed after (\d+) parts", record.read_text()))
    assert int(made) < 400
