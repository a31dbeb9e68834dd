"""A proxy in front of PostgreSQL that records the statements of a request, whatever driver sends them."""

import argparse
import re
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlparse
from django.db import connection

from benchmarks import databases, equal_answers
from benchmarks.operations import EVERYDAY_CALLS, NAMES, plain_requests
from benchmarks.servers import OURS, RunningServer, run_server
from benchmarks.terminal import show_status
from benchmarks.testbed import Testbed, start_testbed

STARTUP = 196608  # version 3.0 of the protocol: after it every message begins with its kind
QUERY, PARSE, EXECUTE = b"Q", b"P", b"E"
PORT = 5432  # is part of the name of the socket's file
# Control the transaction or its settings; a statement that reads a table is counted even if it sets something.
NOT_COUNTED = re.compile(
    r"(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|SET|RESET|PREPARE)\b|SELECT set_config\((?!.*\bFROM\b)",
    re.IGNORECASE | re.DOTALL,
)
# Members of the sample, so that no change is repeated; more than the server has threads, because each thread opens a
# connection at its first request.
SAMPLE_NUMBERS = range(40, 60)


@dataclass(frozen=True)
class Sent:
    """What one request sends to PostgreSQL, each message with the statements in it."""

    messages: list[str]

    @property
    def statements(self) -> list[str]:
        """Without those that control the transaction or its settings."""
        found = [one.strip() for message in self.messages for one in sqlparse.split(message)]
        return [one for one in found if one and not NOT_COUNTED.match(one)]


class StatementRecorder:
    """Listens on a socket in the folder; `messages` are those received, in their order, one for each round trip."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.messages: list[str] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(Path(folder) / f".s.PGSQL.{PORT}"))
        self.listener.listen(64)
        threading.Thread(target=self.accept_connections, daemon=True).start()

    def url_of(self, database: str) -> str:
        user = connection.get_connection_params().get("user") or ""
        return f"postgres://{user}@/{database}?host={self.folder}&port={PORT}"

    def accept_connections(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self.listener.accept()
                server = connect_to_postgresql()
                threading.Thread(target=self.forward_to_server, args=[client, server], daemon=True).start()
                threading.Thread(target=forward_to_client, args=[server, client], daemon=True).start()

    def forward_to_server(self, client: socket.socket, server: socket.socket) -> None:
        buffer, started = b"", False
        with closed_together(client, server):
            while received := client.recv(65536):
                buffer += received
                while (size := length_of_first_message(buffer, started)) <= len(buffer):
                    message, buffer = buffer[:size], buffer[size:]
                    if started:
                        self.record(message)
                    else:
                        started = struct.unpack_from("!i", message, 4)[0] == STARTUP
                server.sendall(received)  # after recording: the client may have the answer before this returns

    def record(self, message: bytes) -> None:
        kind, content = message[:1], message[5:]
        if kind == QUERY:
            self.messages.append(content.rstrip(b"\0").decode())
        elif kind == PARSE:  # a prepared statement of the extended protocol: recorded when it is executed
            self.prepared = content.split(b"\0")[1].decode()
        elif kind == EXECUTE:
            self.messages.append(getattr(self, "prepared", "a prepared statement"))


def connect_to_postgresql() -> socket.socket:
    parameters: dict[str, Any] = connection.get_connection_params()
    host, port = str(parameters.get("host") or "127.0.0.1"), int(parameters.get("port") or PORT)
    if not host.startswith("/"):
        return socket.create_connection((host, port))
    opened = socket.socket(socket.AF_UNIX)
    opened.connect(f"{host}/.s.PGSQL.{port}")
    return opened


def length_of_first_message(buffer: bytes, started: bool) -> int:
    """Bytes of the message that the buffer begins with; more than the buffer has while the length is incomplete."""
    kind = 1 if started else 0
    return kind + struct.unpack_from("!i", buffer, kind)[0] if len(buffer) >= kind + 4 else len(buffer) + 1


def forward_to_client(server: socket.socket, client: socket.socket) -> None:
    with closed_together(server, client):
        while received := server.recv(65536):
            client.sendall(received)


@contextmanager
def closed_together(source: socket.socket, target: socket.socket) -> Iterator[None]:
    """Closes the source at the end, and shuts the target down, so that the thread that reads from it ends too."""
    with suppress(OSError), source:
        try:
            yield
        finally:
            with suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)


@contextmanager
def start_recorder() -> Iterator[StatementRecorder]:
    with TemporaryDirectory(prefix="recorder-") as folder:
        recorder = StatementRecorder(folder)
        try:
            yield recorder
        finally:
            recorder.listener.close()


def run(options: argparse.Namespace, folder: Path) -> str:
    """What each operation sends, in Markdown."""
    wanted = options.operations or NAMES
    with start_testbed(folder, [OURS.name], options.patients) as testbed:
        sent = record_statements(testbed, wanted, folder)
    return "\n".join(
        f"## {name}: {len(one.statements)} statements, {len(one.messages)} round trips\n\n"
        + "".join(f"```sql\n{message.strip()}\n```\n" for message in one.messages)
        for name, one in sent.items()
    )


def record_statements(testbed: Testbed, operations: Iterable[str], folder: Path) -> dict[str, Sent]:
    """By operation what a request of it to ours sends to PostgreSQL over a connection that is open already."""
    database = databases.copy_name("product", testbed.others)
    with (
        start_recorder() as recorder,
        run_server(OURS, recorder.url_of(database), folder / "recorded.log") as server,
    ):
        return {name: record_operation(testbed, name, server, recorder) for name in operations}


def record_operation(testbed: Testbed, name: str, server: RunningServer, recorder: StatementRecorder) -> Sent:
    show_status(f"statements of {name}")
    everyday = EVERYDAY_CALLS.get(name)
    request = everyday.request if everyday else plain_requests(testbed.caller, OURS.paging)[name]
    caller = testbed.caller
    if request.sample == "tagged":
        caller = equal_answers.with_entity_tags(server, caller)
    found = []
    for number in SAMPLE_NUMBERS:
        recorder.messages.clear()
        equal_answers.fetch_json(name, server, request.filled(caller, number), caller)
        found.append(Sent(list(recorder.messages)))
    return min(found, key=lambda sent: (len(sent.messages), len(sent.statements), len("".join(sent.messages))))
