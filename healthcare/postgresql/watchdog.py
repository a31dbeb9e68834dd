"""Cuts off the sessions whose server has not answered in time.

A thread compares the times that `Session.wait_for` stores. It shuts the socket down, which psycopg2 sees as a server
that has closed the connection. TCP keepalives and tcp_user_timeout would not do it: the kernel of a frozen server still
acknowledges what it receives, and a Unix socket has neither.
"""

import os
import socket
import threading
import time
from contextlib import suppress
from weakref import WeakSet

import psycopg2

from healthcare.postgresql.session import Session

CHECK_PERIOD = 0.5  # seconds


class Watchdog:
    """One thread of a process, started with its first watched session."""

    def __init__(self) -> None:
        self.sessions: WeakSet[Session] = WeakSet()
        self.lock = threading.Lock()
        self.process = 0  # that the thread runs in; a fork has no thread

    def watch(self, session: Session) -> None:
        with self.lock:
            session.is_watched = True
            self.sessions.add(session)
            if self.process != os.getpid():
                self.process = os.getpid()
                threading.Thread(target=self.run, name="database watchdog", daemon=True).start()

    def run(self) -> None:
        while True:
            time.sleep(CHECK_PERIOD)
            with self.lock:
                sessions = [*self.sessions]
            now = time.monotonic()
            for session in sessions:
                sent_at, limits = session.sent_at, session.limits
                if sent_at and limits and now - sent_at > limits.answer:
                    cut_off(session, sent_at)


def cut_off(session: Session, sent_at: float) -> None:
    """Shut down the socket of a session that waits for the answer to a message sent at this time."""
    with suppress(psycopg2.Error, OSError):
        descriptor = os.dup(session.fileno())
        with socket.socket(fileno=descriptor) as duplicate:
            # The message still waits, so the session was not closed meanwhile and the descriptor is its own.
            if session.sent_at == sent_at:
                session.cut_off = True
                duplicate.shutdown(socket.SHUT_RDWR)


watchdog = Watchdog()
