"""A door in front of PostgreSQL that notes what goes through it, whatever driver or trick sends it."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django.db import connection

STARTUP = 196608  # version 3.0 of the protocol: from then on every message begins with its kind
QUERY, PARSE, EXECUTE = b"Q", b"P", b"E"
PORT = 5432  # names the socket's file


class Relay:
    """`heard` are the statements, in the order they came; each cost the sender a message."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.heard: list[str] = []
        self.door = socket.socket(socket.AF_UNIX)
        self.door.bind(str(Path(folder) / f".s.PGSQL.{PORT}"))
        self.door.listen(64)
        threading.Thread(target=self.let_in, daemon=True).start()

    def url_of(self, database: str) -> str:
        user = connection.get_connection_params().get("user") or ""
        return f"postgres://{user}@/{database}?host={self.folder}&port={PORT}"

    def let_in(self) -> None:
        with suppress(OSError):  # the door was closed
            while True:
                client, _ = self.door.accept()
                server = connect()
                threading.Thread(target=self.pass_on, args=[client, server], daemon=True).start()
                threading.Thread(target=hand_back, args=[server, client], daemon=True).start()

    def pass_on(self, client: socket.socket, server: socket.socket) -> None:
        buffer, started = b"", False
        with ended_together(client, server):
            while received := client.recv(65536):
                buffer += received
                while (size := length_of_first(buffer, started)) <= len(buffer):
                    message, buffer = buffer[:size], buffer[size:]
                    if started:
                        self.note(message)
                    else:
                        started = struct.unpack_from("!i", message, 4)[0] == STARTUP
                server.sendall(received)  # noted first: the answer may be with whoever counts before we are

    def note(self, message: bytes) -> None:
        kind, content = message[:1], message[5:]
        if kind == QUERY:
            self.heard.append(content.rstrip(b"\0").decode())
        elif kind == PARSE:  # a prepared statement: counted where it is executed
            self.prepared = content.split(b"\0")[1].decode()
        elif kind == EXECUTE:
            self.heard.append(getattr(self, "prepared", "a prepared statement"))


def connect() -> socket.socket:
    parameters: dict[str, Any] = connection.get_connection_params()
    host, port = str(parameters.get("host") or "127.0.0.1"), int(parameters.get("port") or PORT)
    if not host.startswith("/"):
        return socket.create_connection((host, port))
    opened = socket.socket(socket.AF_UNIX)
    opened.connect(f"{host}/.s.PGSQL.{port}")
    return opened


def length_of_first(buffer: bytes, started: bool) -> int:
    """Bytes of the message that the buffer begins with; more than there are when its length is still to come."""
    kind = 1 if started else 0
    return kind + struct.unpack_from("!i", buffer, kind)[0] if len(buffer) >= kind + 4 else len(buffer) + 1


def hand_back(server: socket.socket, client: socket.socket) -> None:
    with ended_together(server, client):
        while received := server.recv(65536):
            client.sendall(received)


@contextmanager
def ended_together(source: socket.socket, to: socket.socket) -> Iterator[None]:
    """Whichever side goes, the other thread hears of it; each closes what it reads from."""
    with suppress(OSError), source:
        try:
            yield
        finally:
            with suppress(OSError):
                to.shutdown(socket.SHUT_RDWR)


@contextmanager
def listening() -> Iterator[Relay]:
    with TemporaryDirectory(prefix="relay-") as folder:
        relay = Relay(folder)
        try:
            yield relay
        finally:
            relay.door.close()
