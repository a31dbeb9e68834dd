"""The address that `manage.py serve` listens on."""

import socket
import sys
from dataclasses import dataclass


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
    listener = bind_address(address)
    if sys.platform == "linux":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # lets granian bind too; only this account can
    return listener


def bind_address(address: Address, backlog: int = 0) -> socket.socket:
    """Bind the address, and listen if connections may queue. Raises AddressError, also if another server has it."""
    listener = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        # Connections of a previous server may be in TIME_WAIT.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address.host, address.port))
        if backlog:
            listener.listen(backlog)
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
    return listener
