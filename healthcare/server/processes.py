"""The processes of `manage.py serve`: granian, its settings and its workers."""

import http.client
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from healthcare.operations.metrics import MetricsMemory
from healthcare.operations.output import format_output
from healthcare.server.address import Address
from healthcare.server.queue import CONCURRENT_REQUESTS
from healthcare.server.wake_up import forget_signals_of_parent
from healthcare.server.worker_slots import WorkerSlots

ORPHAN_TIMEOUT = 10  # seconds for a worker without a parent to finish the requests in flight
RECEIVING_THREADS = 1  # beside those that run requests: takes, queues and refuses the others
HEADER_TIMEOUT = 15_000  # milliseconds for a client to send the request line and headers
MAX_HEADER_BYTES = 64 * 1024  # of the request line and headers
BACKLOG = 1024  # connections that the kernel queues
FILES_OF_WORKER = 200  # that a worker opens beside its connections
# granian's log goes to the handler of the project, where it would have handlers and formats of its own.
GRANIAN_LOGGING = {
    "formatters": {},
    "handlers": {},
    "loggers": {"_granian": {"handlers": [], "propagate": True}},
}
MAX_CONNECTIONS = 10_000  # of a worker, idle ones included; the next ones wait in the kernel's queue


def run_granian(
    address: Address,
    workers: int,
    on_ready: Callable[[], None],
    application: str = "healthcare.wsgi:application",
    *,
    drain_seconds: float,
    metrics: MetricsMemory | None = None,
) -> None:
    """Serve the application, given as `module:name`, until SIGINT or SIGTERM. See `supervisor` for the signals. The
    workers count in the memory of the metrics, if there is one."""
    from granian.constants import HTTPModes, Interfaces, RuntimeModes
    from granian.http import HTTP1Settings
    from granian.log import LogLevels

    from healthcare.server.worker import Server

    server = Server(
        application,
        address=address.host,
        port=address.port,
        interface=Interfaces.WSGI,
        workers=workers,
        blocking_threads=CONCURRENT_REQUESTS + RECEIVING_THREADS,
        runtime_mode=RuntimeModes.mt,
        http=HTTPModes.http1,
        websockets=False,
        backlog=BACKLOG,
        backpressure=raise_connection_limit(),
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT, max_buffer_size=MAX_HEADER_BYTES),
        log_level=LogLevels.warning,
        log_dictconfig=GRANIAN_LOGGING,
        drain_seconds=drain_seconds,
    )
    server.slots = WorkerSlots(metrics) if metrics else None
    unannounced = multiprocessing.Semaphore(1)
    loader: Any = partial(load_application, application, server.start_up, unannounced, address, on_ready)
    server.serve(target_loader=loader, wrap_loader=False)


def raise_connection_limit() -> int:
    """Let this process and its workers open as many files as its hard limit allows. Return how many connections fit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = (
        MAX_CONNECTIONS + FILES_OF_WORKER
        if hard == resource.RLIM_INFINITY
        else min(hard, MAX_CONNECTIONS + FILES_OF_WORKER)
    )
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return max(files - FILES_OF_WORKER, 1)


@dataclass(frozen=True)
class LoadedApplication:
    """The WSGI application, and the semaphore that a worker releases once it accepts connections."""

    application: Any
    start_up: Any


def load_application(
    name: str, start_up: Any, unannounced: Any, address: Address, on_ready: Callable[[], None]
) -> LoadedApplication:
    """Load the WSGI application in a worker process, before its first request."""
    forget_signals_of_parent()  # a signal ends the worker until it can finish requests
    threading.Thread(target=stop_with_parent, daemon=True).start()
    format_output()
    module, _, attribute = name.partition(":")
    try:
        application = getattr(import_module(module), attribute)  # slow to import
    except Exception as error:  # multiprocessing would print its text
        sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(1)
    if unannounced.acquire(block=False):
        threading.Thread(target=call_when_ready, args=[address, on_ready], daemon=True).start()
    return LoadedApplication(application, start_up)


def stop_with_parent() -> None:
    """Exit if the parent is killed: the worker would otherwise keep the port and the database forever."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os.kill(os.getpid(), signal.SIGINT)  # without draining, so that the port is free for a new server
        time.sleep(ORPHAN_TIMEOUT)
        os._exit(1)


def call_when_ready(address: Address, on_ready: Callable[[], None]) -> None:
    while True:
        connection = http.client.HTTPConnection(address.reachable_host, address.port, timeout=5)
        try:
            connection.request("GET", "/healthz", headers={"Host": "localhost"})
            connection.getresponse().read()
        except OSError:
            time.sleep(0.02)
        else:
            on_ready()
            return
        finally:
            connection.close()
