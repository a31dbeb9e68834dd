"""Answers that are sent while they are made: whole or broken, at the pace of their clients, beside other requests."""

import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from healthcare.server.connections import find_connection
from healthcare.server.streams import MAX_STREAMS
from healthcare.tests.crash import eventually
from healthcare.tests.live import TIMEOUT, LiveServer, parse, serving, worker_of
from healthcare.tests.streaming_settings import CANARY, PART

pytestmark = pytest.mark.slow

LARGE = 4000  # parts: much more than what the kernel keeps for a client that does not read


class StreamingServer:
    """A server, with what it has printed and what its streams have recorded."""

    def __init__(self, live: LiveServer, folder: Path) -> None:
        self.live, self.output, self.record = live, folder / "output", folder / "streams"

    def open(self, asked: str, version: str = "1.1", method: str = "GET", more: str = "") -> socket.socket:
        """A connection on which a stream was asked for. It reads little at once."""
        client = socket.socket()
        client.settimeout(TIMEOUT)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        client.connect((self.live.host, self.live.port))
        lines = [f"{method} /api/doctors/ HTTP/{version}", "Host: localhost", f"X-Stream: {asked}", more, ""]
        client.sendall("\r\n".join([*filter(None, lines), "", ""]).encode())
        return client

    def get(self, asked: str, version: str = "1.1", method: str = "GET", more: str = "") -> bytes:
        """What the server sends. Raises ConnectionResetError if it resets the connection."""
        with self.open(asked, version, method, more) as client:
            return read_to_end(client)

    def recorded(self) -> list[str]:
        return self.record.read_text().splitlines() if self.record.exists() else []

    def wait_for(self, line: str) -> None:
        eventually(lambda: line in self.recorded())

    def lines_of_log(self, request_id: str) -> list[dict[str, str]]:
        lines = re.findall(
            rf"^.* INFO healthcare\.access (.* request_id={request_id} .*)$", self.output.read_text(), re.M
        )
        return [dict(re.findall(r"(\w+)=(\S+)", line)) for line in lines]


def read_to_end(client: socket.socket) -> bytes:
    received = bytearray()
    while block := client.recv(1024 * 1024):
        received += block
    return bytes(received)


def parts(number: int) -> bytes:
    return b"".join(bytes([place % 256]) * PART for place in range(1, number + 1))


@pytest.fixture(scope="module")
def server(live_server_process: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StreamingServer]:
    folder = tmp_path_factory.mktemp("streams")
    with serving(
        live_server_process.database_url,
        output=folder / "output",
        migrated=True,
        DJANGO_SETTINGS_MODULE="healthcare.tests.streaming_settings",
        STREAMS=str(folder / "streams"),
    ) as started:
        yield StreamingServer(started, folder)


@pytest.fixture(autouse=True)
def forget_earlier_streams(server: StreamingServer) -> None:
    eventually(lambda: sum(line.endswith("started") for line in server.recorded()) <= closed(server))
    server.record.unlink(missing_ok=True)


def closed(server: StreamingServer) -> int:
    return sum(" closed " in line for line in server.recorded())


def test_a_stream_arrives_whole_and_closes_its_connection(server: StreamingServer):
    answer = parse(server.get("9 end"))
    assert answer
    assert answer.status == 200
    assert (answer.headers["Transfer-Encoding"], answer.headers["Connection"]) == ("chunked", "close")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert "Date" in answer.headers
    assert answer.body == parts(9)
    assert server.recorded() == ["9 end started", "9 end closed after 9 parts"]


def test_a_stream_has_one_line_in_the_access_log_with_its_size(server: StreamingServer):
    answer = parse(server.get("5 end"))
    assert answer
    [line] = server.lines_of_log(answer.headers["X-Request-Id"])
    assert (line["route"], line["status"], line["bytes"]) == ("/api/doctors/", "200", str(5 * PART))


def test_a_client_of_http_1_0_gets_the_parts_without_chunks(server: StreamingServer):
    answer = parse(server.get("3 end", version="1.0"))
    assert answer
    assert "Transfer-Encoding" not in answer.headers
    assert answer.body == parts(3)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("end", ["raise", "exit"])
def test_an_exception_within_a_stream_resets_the_connection(server: StreamingServer, end: str, version: str):
    with server.open(f"2 {end}", version) as client:
        head = client.recv(16)
        assert head.startswith(b"HTTP/1")
        with pytest.raises(ConnectionResetError):
            read_to_end(client)
    server.wait_for(f"2 {end} closed after 2 parts")
    assert CANARY not in server.output.read_text()


def test_a_broken_stream_is_logged_with_500(server: StreamingServer):
    with server.open("2 raise") as client, pytest.raises(ConnectionResetError):
        read_to_end(client)
    [request_id] = re.findall(r"unhandled in a stream .*?request_id=(\w+)", server.output.read_text())[-1:]
    [line] = server.lines_of_log(request_id)
    assert (line["status"], line["bytes"]) == ("500", str(2 * PART))


@pytest.mark.parametrize("end", ["raise", "exit"])
def test_an_exception_before_the_first_part_is_a_problem(server: StreamingServer, end: str):
    answer = parse(server.get(f"0 {end}"))
    assert answer
    assert (answer.status, answer.headers["Content-Type"]) == (500, "application/problem+json")
    [line] = server.lines_of_log(answer.json["request_id"])
    assert line["status"] == "500"


def test_head_starts_no_stream(server: StreamingServer):
    with server.open("2 end", method="HEAD", more="Connection: close") as client:
        assert read_to_end(client).endswith(b"\r\n\r\n")
    assert server.recorded() == ["2 end closed after 0 parts"]


def test_a_stream_waits_for_a_client_that_does_not_read(server: StreamingServer):
    with server.open(f"{LARGE} end"):
        server.wait_for(f"{LARGE} end started")
        assert server.live.call("GET", "/api/doctors/").status == 200
    [line] = eventually(lambda: [line for line in server.recorded() if " closed " in line])
    assert int(line.split()[-2]) < 100, "more was made than the client and the kernel take"


def test_streams_leave_the_threads_and_connections_of_the_worker_to_others(server: StreamingServer):
    with ExitStack() as clients:
        for _ in range(MAX_STREAMS):
            clients.enter_context(server.open(f"{LARGE} end"))
        eventually(lambda: server.recorded().count(f"{LARGE} end started") == MAX_STREAMS)
        refused = parse(server.get("1 end"))
        assert refused
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        assert refused.json["detail"] == "This server sends as many exports as it can at once; try again soon."
        [line] = server.lines_of_log(refused.json["request_id"])
        assert line["status"] == "503"
        assert server.recorded()[-1] == "1 end closed after 0 parts"
        for _ in range(20):
            assert server.live.call("GET", "/api/doctors/").status == 200
    eventually(lambda: closed(server) == MAX_STREAMS + 1)
    answer = parse(server.get("1 end"))
    assert answer
    assert answer.body == parts(1)


def test_a_large_stream_needs_little_memory(server: StreamingServer):
    worker = worker_of(server.live)
    with server.open("800 end") as client:
        before, largest, received = worker.memory_info().rss, 0, 0
        while block := client.recv(1024 * 1024):
            received += len(block)
            largest = max(largest, worker.memory_info().rss)
    assert received > 800 * PART
    assert largest - before < 32 * 1024 * 1024


def test_pipelined_requests_are_answered_up_to_the_stream(server: StreamingServer):
    request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n{}\r\n"
    with socket.create_connection((server.live.host, server.live.port), timeout=TIMEOUT) as client:
        client.sendall(
            "".join(
                [
                    request.format(""),
                    request.format("")
                    .replace("/healthz", "/api/doctors/")
                    .replace("\r\n\r\n", "\r\nX-Stream: 2 end\r\n\r\n"),
                    request.format(""),
                ]
            ).encode()
        )
        received = b""
        with suppress(ConnectionResetError):
            while block := client.recv(1024 * 1024):
                received += block
    first, second = received.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert first.endswith(b'{"status":"ok"}')
    answer = parse(b"HTTP/1.1 200 OK\r\n" + second)
    assert answer
    assert answer.body == parts(2)


@pytest.fixture
def impatient(live_server_process: LiveServer, tmp_path: Path) -> Iterator[StreamingServer]:
    """A server of its own, for which a client must read something within a second."""
    with serving(
        live_server_process.database_url,
        output=tmp_path / "output",
        migrated=True,
        DJANGO_SETTINGS_MODULE="healthcare.tests.streaming_settings",
        STREAMS=str(tmp_path / "streams"),
        LONGEST_STALL="1",
    ) as started:
        yield StreamingServer(started, tmp_path)


def test_a_client_that_reads_too_slowly_and_the_stop_of_the_worker_break_a_stream(impatient: StreamingServer):
    with impatient.open(f"{LARGE} end") as client:
        eventually(lambda: closed(impatient))
        with pytest.raises(ConnectionResetError):
            read_to_end(client)
    assert "a stream ended early: its client reads too slowly" in impatient.output.read_text()
    with impatient.open("100000 end") as client:
        assert client.recv(1024)
        worker = worker_of(impatient.live)
        worker.send_signal(signal.SIGINT)
        with pytest.raises(ConnectionResetError):
            read_to_end(client)
    eventually(lambda: closed(impatient) == 2)
    worker.wait(TIMEOUT)
    assert "a stream ended early: the worker stops" in impatient.output.read_text()


def connected_from(client: socket.socket, listener: socket.socket, to: str) -> socket.socket:
    """The server's end of a connection of this client."""
    client.connect((to, listener.getsockname()[1]))
    return listener.accept()[0]


def test_the_connection_of_a_client_is_found_unless_there_are_two() -> None:
    with ExitStack() as stack:
        listener, first, second = (stack.enter_context(socket.socket()) for _ in range(3))
        listener.bind(("0.0.0.0", 0))  # noqa: S104
        listener.listen()
        server_port = listener.getsockname()[1]
        for client in (first, second):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        first.bind(("127.0.0.1", 0))
        address, port = first.getsockname()
        second.bind((address, port))
        assert find_connection(address, port, server_port) is None
        stack.enter_context(connected_from(first, listener, "127.0.0.1"))
        found = find_connection(address, port, server_port)
        assert found is not None
        stack.enter_context(found)
        found.sendall(b"x")
        assert first.recv(1) == b"x"
        again = find_connection(address, port, server_port)  # two descriptors of one connection
        assert again is not None
        again.close()
        stack.enter_context(connected_from(second, listener, "127.0.0.2"))
        assert find_connection(address, port, server_port) is None
