"""File locks (flock) that the kernel releases when the last process that holds them ends, so they cannot go stale.

A lock belongs to the open file description: a forked child shares it, an executed program does not unless it gets the
descriptor. Release a lock by closing the descriptor: LOCK_UN would release it for the children too.
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
POLL_SECONDS = 0.01


def open_lock(path: Path, account: Account | None) -> int:
    """Open a new descriptor of the lock file and create the file if necessary. Refuse a symbolic link."""
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


def wait_for_lock(descriptor: int, kind: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not try_lock(descriptor, kind):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def is_unlocked(path: Path, account: Account | None) -> bool:
    """Whether no process holds the lock at this moment."""
    descriptor = open_lock(path, account)
    try:
        return try_lock(descriptor, EXCLUSIVE)
    finally:
        os.close(descriptor)


@contextmanager
def exclusive_lock(path: Path, account: Account | None) -> Iterator[None]:
    """Wait for the lock and hold it, against other processes and other threads of this one."""
    descriptor = open_lock(path, account)
    try:
        fcntl.flock(descriptor, EXCLUSIVE)
        yield
    finally:
        os.close(descriptor)
