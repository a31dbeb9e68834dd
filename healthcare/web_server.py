"""granian, the WSGI server behind `manage.py serve`: its address, its settings and its workers."""

import http.client
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

THREADS = 4  # per worker; each holds one database connection
KILL_TIMEOUT = 10  # seconds a worker has to answer what is in flight
HEADER_TIMEOUT = 15_000  # milliseconds to send a request's head
BUFFER = 64 * 1024  # bytes of a request's head
BACKLOG = 1024  # connections the kernel keeps waiting


class AddressError(Exception):
    """The address cannot be listened on; the text is one sentence."""


@dataclass(frozen=True)
class Address:
    """Where to listen, by number: "127.0.0.1" or "::1"."""

    host: str
    port: int

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    @property
    def reachable_host(self) -> str:
        """A host that a client on this machine can use."""
        return {"0.0.0.0": "localhost", "::": "localhost"}.get(self.host, self.host)  # noqa: S104

    @property
    def url(self) -> str:
        host = self.reachable_host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def parse_address(text: str) -> Address:
    """From "8000", "0.0.0.0:8000", "[::1]:8000" or "localhost:8000". Raises AddressError."""
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


def reserve(address: Address) -> socket.socket:
    """Bind the address, so that no second server takes it while this one gets ready. Raises AddressError.

    granian shares a port by SO_REUSEPORT, with which a second server would silently take half of the requests.
    """
    reserved = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an earlier server may linger
        if address.family == socket.AF_INET6:
            reserved.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        reserved.bind((address.host, address.port))
    except PermissionError as error:
        reserved.close()
        raise AddressError(f"port {address.port} is for root only; choose one from 1024 on.") from error
    except OSError as error:
        reserved.close()
        reason = (error.strerror or "unknown error").lower()
        raise AddressError(
            f"{address.url} cannot be listened on ({reason}); choose another address or port."
        ) from error
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    if sys.platform == "linux":
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # lets granian in, of this account only
    return reserved


def serve(address: Address, workers: int, announce: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM; what is in flight is answered first."""
    from granian.constants import HTTPModes, Interfaces, RuntimeModes
    from granian.http import HTTP1Settings
    from granian.log import LogLevels
    from granian.server import Server

    server = Server(
        "healthcare.wsgi:application",
        address=address.host,
        port=address.port,
        interface=Interfaces.WSGI,
        workers=workers,
        blocking_threads=THREADS,
        runtime_mode=RuntimeModes.mt,
        http=HTTPModes.http1,
        websockets=False,
        backlog=BACKLOG,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT, max_buffer_size=BUFFER),
        log_level=LogLevels.warning,
        respawn_failed_workers=True,
        workers_kill_timeout=KILL_TIMEOUT,
    )
    first = multiprocessing.Semaphore(1)
    server.serve(target_loader=partial(load_application, first, address, announce), wrap_loader=False)


def load_application(first: Any, address: Address, announce: Callable[[], None]) -> Any:
    """The WSGI application, in a worker; runs there before the first request."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    from healthcare.wsgi import application  # takes a moment

    if first.acquire(block=False):
        threading.Thread(target=announce_when_answering, args=[address, announce], daemon=True).start()
    return application


def end_with_parent() -> None:
    """A worker whose parent was killed would keep the port and the database for ever."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(KILL_TIMEOUT)
        os._exit(1)  # it had not come so far as to listen to signals


def announce_when_answering(address: Address, announce: Callable[[], None]) -> None:
    while True:
        connection = http.client.HTTPConnection(address.reachable_host, address.port, timeout=5)
        try:
            connection.request("GET", "/healthz", headers={"Host": "localhost"})
            connection.getresponse().read()
        except OSError:
            time.sleep(0.02)
        else:
            announce()
            return
        finally:
            connection.close()
