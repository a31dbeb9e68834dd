"""A server behind a proxy that records what reaches it, byte for byte."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedReader

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@dataclass
class RecordingServer:
    """Answers every request with `answer_bytes`, or closes the connection once a request is there (`dying`).

    Requests for /readyz are answered 200 and not recorded.
    """

    listener: socket.socket
    dying: bool = False
    answer_bytes: bytes = ANSWER
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)  # head and body of each
    seconds_idle: list[float] = field(default_factory=list)  # of each connection before the proxy closed it
    connections: list[socket.socket] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def values(self, name: str) -> list[str]:
        """The values of a header of the last request, one for each line."""
        lines = [line.partition(b":") for line in self.requests[-1][0].split(b"\r\n")[1:]]
        return [value.decode("latin-1").strip() for key, _, value in lines if key.decode("latin-1").lower() == name]

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                connection = self.listener.accept()[0]
                self.connections.append(connection)
                threading.Thread(target=self.answer, args=[connection], daemon=True).start()

    def answer(self, connection: socket.socket) -> None:
        answered = time.monotonic()
        with suppress(OSError, ValueError), connection, connection.makefile("rb") as file:
            while head := self.read_head(file):
                body = self.read_body(head, file)
                if head.startswith(b"GET /readyz "):
                    connection.sendall(ANSWER)
                else:
                    self.requests.append((head, body))
                    if self.dying:
                        connection.shutdown(socket.SHUT_RDWR)
                        return
                    connection.sendall(self.answer_bytes)
                answered = time.monotonic()
        self.seconds_idle.append(time.monotonic() - answered)

    @staticmethod
    def read_head(file: BufferedReader) -> bytes:
        head = b""
        while line := file.readline():
            head += line
            if line in {b"\r\n", b"\n"}:
                return head
        return b""

    @staticmethod
    def read_body(head: bytes, file: BufferedReader) -> bytes:
        headers = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
        if b"chunked" in headers.get(b"transfer-encoding", b""):
            body = b""
            while size := int(file.readline().split(b";")[0], 16):
                body += file.read(size)
                file.readline()
            file.readline()
            return body
        return file.read(int(headers.get(b"content-length", 0)))


@contextmanager
def recording_server() -> Iterator[RecordingServer]:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        server = RecordingServer(listener)
        threading.Thread(target=server.accept, daemon=True).start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for connection in server.connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
