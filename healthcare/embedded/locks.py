"""Locks that end with the last process that holds them (flock, BSD), however it dies: they cannot go stale.

A lock belongs to the open file, so a forked child shares it and an executed program does not, unless it is handed the
descriptor. It is let go by closing, never by LOCK_UN: that would take it from the children too.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from healthcare.embedded.account import Account

EXCLUSIVE = fcntl.LOCK_EX
SHARED = fcntl.LOCK_SH
PAUSE = 0.01  # seconds between two tries


def open_lock(path: Path, account: Account | None) -> int:
    """A new descriptor of the lock file, which is made if it is not there; a symbolic link is refused."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        pass
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags)
    if account:
        os.fchown(descriptor, account.uid, account.gid)
    return descriptor


def try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for(descriptor: int, kind: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not try_lock(descriptor, kind):
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE)
    return True


def is_free(path: Path, account: Account | None) -> bool:
    """Whether nobody holds the lock, at this moment."""
    descriptor = open_lock(path, account)
    try:
        return try_lock(descriptor, EXCLUSIVE)
    finally:
        os.close(descriptor)


@contextmanager
def alone(path: Path, account: Account | None) -> Iterator[None]:
    """One process, and one thread of it, at a time."""
    descriptor = open_lock(path, account)
    try:
        fcntl.flock(descriptor, EXCLUSIVE)
        yield
    finally:
        os.close(descriptor)
