"""Check whether a server accepts connections, with the startup message of PostgreSQL's protocol, version 3.0."""

import socket
import struct
from pathlib import Path

PROTOCOL = 3 << 16
STARTUP_MESSAGE = b"user\0postgres\0database\0postgres\0\0"
TERMINATE = b"X\x00\x00\x00\x04"
CANNOT_CONNECT_NOW = "57P03"  # starting up, shutting down or recovering
TIMEOUT_SECONDS = 5


def accepts_connections(path: Path) -> bool:
    """Whether the server accepts connections, or refuses this one for a reason that waiting does not change."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_SECONDS)
        try:
            connection.connect(str(path))
            return read_refusal(connection) != CANNOT_CONNECT_NOW
        except OSError:
            return False


def read_refusal(connection: socket.socket) -> str | None:
    """The SQLSTATE with which the server refuses this connection, None if it asks for or accepts the login.

    Raises OSError if it answers neither. A server that cannot serve says so before it asks who connects.
    """
    connection.sendall(struct.pack("!ii", len(STARTUP_MESSAGE) + 8, PROTOCOL) + STARTUP_MESSAGE)
    reply = connection.recv(4096)
    if reply[:1] == b"R":
        connection.sendall(TERMINATE)
        return None
    if reply[:1] != b"E":
        raise ConnectionError
    fields = reply[5:].split(b"\0")  # each begins with the letter of its meaning
    return next((field[1:].decode(errors="replace") for field in fields if field[:1] == b"C"), "")
