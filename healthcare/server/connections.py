"""The socket of the connection that a request came over: granian tells only the addresses of its ends."""

import ipaddress
import os
import socket
import stat

OPEN_FILES = "/dev/fd"  # of this process, in Linux and macOS


def find_connection(address: str, port: int, server_port: int) -> socket.socket | None:
    """Another descriptor for the connection of this client; None if it has been closed.

    Also None if there are two: a client may have one to each of several addresses of this machine from the same port,
    and what is for the one must not be sent to the other.

    The descriptors share the state of the connection. It does not block, and must not be made to: granian waits for
    none. A time limit (`settimeout`) belongs to this object alone.
    """
    client = ipaddress.ip_address(address.partition("%")[0])
    found: dict[int, socket.socket] = {}  # by inode, which another descriptor of the same connection has too
    for name in os.listdir(OPEN_FILES):
        try:
            number = int(name)
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue  # closing another descriptor of a file would release its locks
            duplicate = socket.socket(fileno=os.dup(number))
        except (OSError, ValueError):  # closed since it was listed
            continue
        inode = os.fstat(duplicate.fileno()).st_ino
        if inode not in found and connects(duplicate, client, port, server_port):
            found[inode] = duplicate
        else:
            duplicate.close()
    if len(found) == 1:
        return found.popitem()[1]
    for duplicate in found.values():
        duplicate.close()
    return None


def connects(
    candidate: socket.socket, client: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, server_port: int
) -> bool:
    if candidate.family not in {socket.AF_INET, socket.AF_INET6} or candidate.type != socket.SOCK_STREAM:
        return False
    try:
        peer, own = candidate.getpeername(), candidate.getsockname()
    except OSError:  # it listens, or its peer has gone
        return False
    is_pair = (peer[1], own[1]) == (port, server_port)
    return is_pair and ipaddress.ip_address(peer[0].partition("%")[0]) == client
