"""Check whether a server accepts connections, with the startup message of PostgreSQL's protocol, version 3.0."""

import socket
import struct
from pathlib import Path

PROTOCOL = 3 << 16
STARTUP_MESSAGE = b"user\0postgres\0database\0postgres\0\0"
TERMINATE = b"X\x00\x00\x00\x04"
CANNOT_CONNECT_NOW = b"C57P03\0"  # SQLSTATE field: starting up, shutting down or recovering
TIMEOUT_SECONDS = 5


def accepts_connections(path: Path) -> bool:
    """Whether the server accepts connections, or refuses this one for a reason that waiting does not change."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_SECONDS)
        try:
            connection.connect(str(path))
            connection.sendall(struct.pack("!ii", len(STARTUP_MESSAGE) + 8, PROTOCOL) + STARTUP_MESSAGE)
            reply = connection.recv(4096)
            if reply[:1] == b"R":
                connection.sendall(TERMINATE)
                return True
        except OSError:
            return False
    return reply[:1] == b"E" and CANNOT_CONNECT_NOW not in reply
