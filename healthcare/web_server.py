"""granian, the WSGI server of `manage.py serve`: its address, settings and workers."""

import http.client
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

THREADS_PER_WORKER = 4  # each has one database connection
KILL_TIMEOUT = 10  # seconds for a worker to finish the requests in flight
HEADER_TIMEOUT = 15_000  # milliseconds for a client to send the request line and headers
MAX_HEADER_BYTES = 64 * 1024  # of the request line and headers
BACKLOG = 1024  # connections that the kernel queues
FILES_OF_WORKER = 200  # that a worker opens beside its connections
MAX_CONNECTIONS = 10_000  # of a worker, idle ones included; the next ones wait in the kernel's queue


class AddressError(Exception):
    """The server cannot listen on the address. The text is one sentence."""


@dataclass(frozen=True)
class Address:
    """An IP address and a port to listen on."""

    host: str
    port: int

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    @property
    def reachable_host(self) -> str:
        """The host that a client on this machine connects to."""
        return {"0.0.0.0": "localhost", "::": "localhost"}.get(self.host, self.host)  # noqa: S104

    @property
    def url(self) -> str:
        host = self.reachable_host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Parse "8000", "0.0.0.0:8000", "[::1]:8000" or "localhost:8000". Raises AddressError."""
    host, _, port = text.rpartition(":")
    host = host or "127.0.0.1"
    example = "write 127.0.0.1:8000, [::1]:8000 or 8000, for example"
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
        raise AddressError(f"{text} has no port from 1 to 65535; {example}.")
    bracketed = host.startswith("[") and host.endswith("]")
    if ":" in host and not bracketed:
        raise AddressError(f"{text} is ambiguous; {example}.")
    try:
        found = socket.getaddrinfo(host[1:-1] if bracketed else host, int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AddressError(f"{host} is not an address of this machine; {example}.") from error
    return Address(str(found[0][4][0]), int(port))


def reserve_address(address: Address) -> socket.socket:
    """Bind the address, so that a second server cannot take it while this one starts. Raises AddressError.

    granian's workers share a port by SO_REUSEPORT; without this check a second server would get half of the requests.
    """
    listener = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        # Connections of a previous server may be in TIME_WAIT.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address.host, address.port))
    except PermissionError as error:
        listener.close()
        raise AddressError(f"port {address.port} needs root; choose one from 1024 on.") from error
    except OSError as error:
        listener.close()
        reason = (error.strerror or "unknown error").lower()
        raise AddressError(
            f"{address.url} cannot be listened on ({reason}); choose another address or port."
        ) from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    if sys.platform == "linux":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # lets granian bind too; only this account can
    return listener


def run_granian(
    address: Address,
    workers: int,
    on_ready: Callable[[], None],
    application: str = "healthcare.wsgi:application",
) -> None:
    """Serve the application, given as `module:name`, until SIGINT or SIGTERM, and finish the requests in flight."""
    from granian.constants import HTTPModes, Interfaces, RuntimeModes
    from granian.http import HTTP1Settings
    from granian.log import LogLevels

    from healthcare.granian_worker import Server

    server = Server(
        application,
        address=address.host,
        port=address.port,
        interface=Interfaces.WSGI,
        workers=workers,
        blocking_threads=THREADS_PER_WORKER,
        runtime_mode=RuntimeModes.mt,
        http=HTTPModes.http1,
        websockets=False,
        backlog=BACKLOG,
        backpressure=raise_connection_limit(),
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT, max_buffer_size=MAX_HEADER_BYTES),
        log_level=LogLevels.warning,
        respawn_failed_workers=True,
        workers_kill_timeout=KILL_TIMEOUT,
    )
    unannounced = multiprocessing.Semaphore(1)
    loader = partial(load_application, application, unannounced, address, on_ready)
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


def load_application(name: str, unannounced: Any, address: Address, on_ready: Callable[[], None]) -> Any:
    """Load the WSGI application in a worker process, before its first request."""
    threading.Thread(target=exit_with_parent, daemon=True).start()
    module, _, attribute = name.partition(":")
    application = getattr(import_module(module), attribute)  # slow to import
    if unannounced.acquire(block=False):
        threading.Thread(target=call_when_ready, args=[address, on_ready], daemon=True).start()
    return application


def exit_with_parent() -> None:
    """Exit if the parent is killed: the worker would otherwise keep the port and the database forever."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(KILL_TIMEOUT)
        os._exit(1)  # the worker did not handle signals yet


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
