"""An SMTP server on a real socket, which keeps what it is sent, and fixtures that have e-mails sent to one."""

import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_string
from email.message import Message
from typing import Any

import pytest

from accounts import mail


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

    @property
    def settings(self) -> dict[str, str]:
        """The variables that have another process send its e-mails to this server."""
        return {"EMAIL_URL": f"smtp://127.0.0.1:{self.port}", "EMAIL_FROM": "clinic@example.org"}

    def take(self) -> list[tuple[str, Message]]:
        """The recipient of each message that was queued since the last call, with the message, in the order of
        sending."""
        mail._queue.join()
        taken, self.received[:] = self.received[:], []
        return [(recipient, message_from_string(text)) for recipients, text in taken for recipient in recipients]

    def wait_for(self, recipient: str, subject: str, seen: int = 0) -> Message:
        """The first message with this subject to this recipient after the `seen` ones, which another process sends."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for recipients, text in self.received[seen:]:
                message = message_from_string(text)
                if recipients == [recipient] and message["Subject"] == subject:
                    return message
            time.sleep(0.01)
        raise AssertionError("no such e-mail has come")


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
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()  # `shutdown` waits so long
        yield server
        server.shutdown()


@pytest.fixture
def mail_to(settings: Any) -> Callable[[int], None]:
    """Sends e-mails to the server at this port, by Django's own backend, which its test runner replaces."""

    def configure(port: int) -> None:
        settings.EMAIL_CONFIGURED = True
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
        settings.DEFAULT_FROM_EMAIL = "clinic@example.org"

    return configure


@pytest.fixture
def mail_server(mail_to: Callable[[int], None]) -> Iterator[SMTPServer]:
    """A server to which this process sends its e-mails."""
    mail._queue.join()  # what an earlier test has queued is none of this one's
    with smtp_server() as server:
        mail_to(server.port)
        yield server
        mail._queue.join()
