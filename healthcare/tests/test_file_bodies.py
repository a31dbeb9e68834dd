"""Bodies of views that accept files: large, in little memory, one at a time, and only there."""

import errno
import gzip
import hashlib
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from healthcare.server.file_bodies import MAX_FILES, SLOWEST_UPLOAD_RATE, FileBodies, FileBody
from healthcare.tests.crash import eventually
from healthcare.tests.live import TIMEOUT, Answer, LiveServer, parse, serving, worker_of

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
FILES = "/api/files/"
LONGEST_FILE_WAIT = 2
TOKEN = "Bearer of-nobody"  # the worker receives the file of a caller who sends a token, and the view checks it


class FileServer:
    def __init__(self, live: LiveServer, folder: Path) -> None:
        self.live, self.folder = live, folder
        self.record, self.release, self.temporary = folder / "record", folder / "release", folder / "temporary"

    def held(self) -> list[str]:
        return self.record.read_text().split() if self.record.exists() else []

    def send(self, file: bytes, **headers: str) -> Answer:
        return self.live.call("POST", FILES, file, Content_Type="text/csv", Authorization=TOKEN, **headers)


@pytest.fixture(scope="module")
def server(live_server_process: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    folder = tmp_path_factory.mktemp("files")
    (folder / "temporary").mkdir()
    with serving(
        live_server_process.database_url,
        migrated=True,
        DJANGO_SETTINGS_MODULE="healthcare.tests.file_settings",
        RECORD=str(folder / "record"),
        RELEASE=str(folder / "release"),
        TMPDIR=str(folder / "temporary"),
        LONGEST_FILE_WAIT=str(LONGEST_FILE_WAIT),
        BODY_SECONDS="2",
    ) as started:
        try:
            yield FileServer(started, folder)
        finally:
            (folder / "release").touch()


class Upload:
    """A request whose headers have been sent."""

    def __init__(self, server: FileServer, length: int, *headers: str, path: str = FILES, method: str = "POST") -> None:
        self.connection = socket.create_connection((server.live.host, server.live.port), timeout=TIMEOUT)
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", f"Authorization: {TOKEN}"]
        self.connection.sendall("\r\n".join([*lines, f"Content-Length: {length}", *headers, "", ""]).encode())

    def answer(self) -> Answer:
        received = b""
        with self.connection:
            try:
                while block := self.connection.recv(65536):
                    received += block
            except ConnectionResetError:  # the rest of the body is unread
                pass
        answer = parse(received)
        assert answer, "the connection was closed without an answer"
        return answer


def a_file(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def described(file: bytes) -> dict[str, Any]:
    return {"size": len(file), "sha256": hashlib.sha256(file).hexdigest()}


@pytest.mark.parametrize("size", [1, MIB, MIB + 1, settings.LARGEST_FILE])
def test_a_file_arrives_whole(server: FileServer, size: int):
    file = a_file(size)
    answer = server.send(file)
    assert (answer.status, answer.json) == (200, described(file))


def test_a_file_may_be_packed(server: FileServer):
    file = gzip.compress(a_file(2 * MIB), mtime=0)
    answer = server.send(file, Content_Encoding="gzip")
    assert (answer.status, answer.json) == (200, described(file))


def test_a_file_without_a_token_is_not_received(server: FileServer):
    with socket.create_connection((server.live.host, server.live.port), timeout=TIMEOUT) as client:
        client.sendall(f"POST {FILES} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {2 * MIB}\r\n\r\n".encode())
        assert client.recv(12) == b"HTTP/1.1 200", "the view of these tests answers everybody"


def test_a_file_over_the_limit_is_answered_413(server: FileServer):
    assert Upload(server, settings.LARGEST_FILE + 1).answer().status == 413


def test_other_routes_take_neither_large_nor_packed_bodies(server: FileServer):
    assert Upload(server, MIB + 1, path="/api/doctors/").answer().status == 413
    packed = server.live.call("POST", "/api/doctors/", gzip.compress(b"{}", mtime=0), Content_Encoding="gzip")
    assert packed.status == 415


def test_a_file_without_a_length_is_answered_411(server: FileServer):
    client = socket.create_connection((server.live.host, server.live.port), timeout=TIMEOUT)
    client.sendall(f"POST {FILES} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode())
    with client:
        assert client.recv(12) == b"HTTP/1.1 411"


def test_a_file_that_ends_early_is_answered_400(server: FileServer):
    upload = Upload(server, 2 * MIB)
    upload.connection.sendall(a_file(MIB))
    upload.connection.shutdown(socket.SHUT_WR)
    with upload.connection:
        received = b"".join(iter(lambda: upload.connection.recv(65536), b""))
    if received:  # granian may have closed the connection
        answer = parse(received)
        assert answer
        assert (answer.status, answer.json["detail"]) == (
            400,
            "The body is shorter than its Content-Length; send all of it.",
        )
    assert server.send(b"x").status == 200


def test_a_file_that_arrives_too_slowly_is_answered_408(server: FileServer):
    upload = Upload(server, 2 * MIB)
    upload.connection.sendall(b"x" * SLOWEST_UPLOAD_RATE)
    answer = upload.answer()
    assert (answer.status, answer.headers["Connection"]) == (408, "close")
    assert answer.json["detail"] == "The body did not arrive in time; send the request again, all of it at once."


def test_a_slow_file_has_longer_the_more_of_it_is_there():
    body = FileBody(protocol=None, environ={}, length=20 * MIB, started=100.0)
    assert body.deadline == 100 + settings.BODY_SECONDS
    body.received = 10 * SLOWEST_UPLOAD_RATE
    assert body.deadline == 110 + settings.BODY_SECONDS


def test_one_file_runs_at_a_time_and_others_pass_it(server: FileServer):
    file = a_file(8 * MIB)
    upload = Upload(server, len(file), "X-Hold: first")
    upload.connection.sendall(file)
    eventually(lambda: server.held() == ["first"])
    assert not [*server.temporary.iterdir()], "the file has no name"
    for _ in range(20):
        assert server.live.call("GET", "/api/doctors/").status == 200
    late = server.send(file, X_Hold="second")
    assert (late.status, late.headers["Retry-After"]) == (503, "10")
    assert late.json["detail"] == "This server takes as many files as it can at once; try again soon."
    waiting = Upload(server, len(file), "X-Hold: third")
    waiting.connection.sendall(file)
    server.release.touch()
    assert upload.answer().json == described(file)
    assert waiting.answer().json == described(file)
    assert server.held() == ["first", "third"]
    server.release.unlink()


def test_many_files_at_once_need_little_memory(server: FileServer):
    worker, file = worker_of(server.live), a_file(16 * MIB)
    before = worker.memory_info().rss
    with ExitStack() as connections:
        uploads = [Upload(server, len(file)) for _ in range(MAX_FILES)]
        for upload in uploads:
            connections.enter_context(upload.connection)
            sending = threading.Thread(target=upload.connection.sendall, args=[file[:-1]], daemon=True)
            sending.start()
            sending.join()
        assert worker.memory_info().rss - before < 32 * MIB
        assert server.live.call("GET", "/api/doctors/").status == 200
        uploads[3].connection.sendall(file[-1:])
        assert uploads[3].answer().json == described(file)


class SlowProtocol:
    """granian's, for a client that sends nothing more."""

    def __init__(self) -> None:
        self.future = NeverDone()

    def __aiter__(self) -> "SlowProtocol":
        return self

    def __anext__(self) -> "NeverDone":
        return self.future


class NeverDone:
    def __init__(self) -> None:
        self.is_cancelled = False
        self.callbacks: list[Callable[[Any], None]] = []

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self.callbacks.append(callback)

    def cancel(self) -> None:
        self.is_cancelled = True
        for callback in self.callbacks:
            callback(self)

    def cancelled(self) -> bool:
        return self.is_cancelled


def test_a_file_too_many_is_refused_unless_another_one_is_slow():
    refused: list[tuple[Any, int]] = []
    bodies = FileBodies(lambda *_: None, lambda protocol, _, status: refused.append((protocol, status)))
    protocols = [SlowProtocol() for _ in range(MAX_FILES + 2)]
    for protocol in protocols[:MAX_FILES]:
        bodies.receive(protocol, {}, 2 * MIB)
    bodies.receive(protocols[MAX_FILES], {}, 2 * MIB)
    assert refused == [(protocols[MAX_FILES], 503)]
    eventually(lambda: all(protocol.future.callbacks for protocol in protocols[:MAX_FILES]))
    for body in bodies.arriving:
        body.received = MIB
    slow = next(body for body in bodies.arriving if body.protocol is protocols[3])
    slow.started -= 60
    bodies.receive(protocols[MAX_FILES + 1], {}, 2 * MIB)
    eventually(lambda: len(refused) == 2)
    assert refused[1] == (protocols[3], 408)
    for protocol in protocols:
        protocol.future.cancel()
    eventually(lambda: not bodies.arriving)


def test_a_file_that_cannot_be_stored_is_refused(monkeypatch: pytest.MonkeyPatch):
    refused: list[int] = []
    bodies = FileBodies(lambda *_: None, lambda _protocol, _environ, status: refused.append(status))

    def fill(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bodies, "fill", fill)
    bodies.receive(SlowProtocol(), {}, 2 * MIB)
    eventually(lambda: refused)
    assert refused == [503]
    assert not bodies.arriving, "the next file may take its place"
