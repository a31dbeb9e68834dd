"""The process that serves METRICS, as the parent of the workers sees it."""

import logging
import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from healthcare.operations.metrics import MetricsMemory
from healthcare.operations.routes import all_routes
from healthcare.server.address import Address, AddressError, bind_address, parse_address
from healthcare.server.metrics_endpoint import run_endpoint

METRICS_BACKLOG = 128
RESTART_PAUSE = 1.0  # seconds

logger = logging.getLogger("healthcare.metrics")
listeners: list[socket.socket] = []  # of this process; a forked worker must not keep them open


def listen_for_metrics(text: str, public: Address) -> socket.socket:
    """Take the address before anything is started. Raises AddressError, also for the port of the public address: a
    firewall opens a port, and a name such as localhost can mean another address with it."""
    try:
        address = parse_address(text)
        if address.port == public.port:
            raise AddressError(f"{address.url} has the port that clients use; choose another one.")
        listener = bind_address(address, METRICS_BACKLOG)
    except AddressError as error:
        raise AddressError(f"METRICS: {error}") from error
    listeners.append(listener)
    return listener


def close_inherited_listeners() -> None:
    """Call it in a worker."""
    while listeners:
        listeners.pop().close()


@contextmanager
def serving_metrics(listener: socket.socket | None, workers: int) -> Iterator[MetricsMemory | None]:
    """Serve the metrics in a process of its own, which is started again if it ends, until the block ends. None without
    a listener."""
    if listener is None:
        yield None
        return
    memory = MetricsMemory(workers, all_routes())
    process = MetricsProcess(listener, memory)
    process.start()
    try:
        yield memory
    finally:
        process.stop()
        close_inherited_listeners()


class MetricsProcess:
    def __init__(self, listener: socket.socket, memory: MetricsMemory) -> None:
        self.listener, self.memory = listener, memory
        # As granian's workers: forked where that is the default, else spawned.
        forks = multiprocessing.get_start_method() == "fork"
        self.context: Any = multiprocessing.get_context("fork" if forks else "spawn")
        self.lock = threading.Lock()
        self.stopping = False

    def start(self) -> None:
        self.process = self.context.Process(
            target=run_endpoint, args=[self.listener, self.memory], name="healthcare-metrics", daemon=True
        )
        self.process.start()
        threading.Thread(target=self.restart_when_ended, daemon=True).start()

    def restart_when_ended(self) -> None:
        self.process.join()
        if not self.stopping:
            logger.error("the process of METRICS has ended with %s; it is started again", self.process.exitcode)
            time.sleep(RESTART_PAUSE)
        with self.lock:
            if not self.stopping:
                self.start()

    def stop(self) -> None:
        with self.lock:
            self.stopping = True
            self.process.kill()  # it ignores the signals that stop the server, and has nothing to finish
        self.process.join()
