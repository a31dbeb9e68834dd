"""An SMTP server on a real socket, which keeps what it is sent."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class SMTPServer(socketserver.ThreadingTCPServer):
    """`received` has the recipients and the text of each message. With `refuses` it accepts no recipient."""

    daemon_threads = True

    def __init__(self, *, refuses: bool) -> None:
        super().__init__(("127.0.0.1", 0), Session)
        self.refuses = refuses
        self.received: list[tuple[list[str], str]] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Session(socketserver.StreamRequestHandler):
    server: SMTPServer

    def answer(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())

    def handle(self) -> None:
        self.answer("220 tests")
        recipients: list[str] = []
        for line in self.rfile:
            command = line.decode().strip()
            verb = command[:4].upper()
            if verb == "RCPT" and self.server.refuses:
                self.answer(f"550 no such mailbox {command}")
            elif verb == "RCPT":
                recipients.append(command.partition("<")[2].rstrip(">"))
                self.answer("250 ok")
            elif verb == "DATA":
                self.answer("354 send it")
                self.server.received.append((recipients, self.read_message()))
                recipients = []
                self.answer("250 ok")
            elif verb == "QUIT":
                self.answer("221 bye")
                return
            else:
                self.answer("250 tests")

    def read_message(self) -> str:
        lines: list[str] = []
        for line in self.rfile:
            if line == b".\r\n":
                break
            lines.append(line.decode())
        return "".join(lines)


@contextmanager
def smtp_server(*, refuses: bool = False) -> Iterator[SMTPServer]:
    with SMTPServer(refuses=refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
