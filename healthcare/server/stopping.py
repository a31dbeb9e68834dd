"""How a worker stops.

It drains first: for DRAIN_SECONDS it goes on accepting connections and answering, while `/readyz` is 503 and every
answer ends its connection, so that load balancers send requests elsewhere before they would be refused. Then it accepts
no more connections, finishes the requests that run and wait, breaks the streams, and ends.
"""

import signal
import threading
from collections.abc import Callable
from typing import Any

from healthcare.operations import health
from healthcare.server.handler import RequestHandler
from healthcare.server.wake_up import STOP_SIGNALS


class Stopping:
    """Handles the signals of a worker. One signal may arrive several times: systemd sends SIGTERM to every process."""

    def __init__(self, handler: RequestHandler, drain_seconds: float, stop_accepting: Callable[[], None]) -> None:
        self.handler, self.drain_seconds, self.stop_accepting = handler, drain_seconds, stop_accepting
        self.draining = self.stopped = False

    def install(self) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, self.handle)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the parent's

    def handle(self, number: int, frame: Any) -> None:
        self.handler.closes_connections = True
        if number == signal.SIGTERM:  # not if another worker has taken its place
            health.monitor.draining = True
        if number == signal.SIGINT or not self.drain_seconds:
            self.stop()
        elif not self.draining:
            self.draining = True
            timer = threading.Timer(self.drain_seconds, self.stop)
            timer.daemon = True
            timer.start()

    def stop(self) -> None:
        if not self.stopped:
            self.stopped = True
            self.handler.streams.stop()
            self.stop_accepting()
