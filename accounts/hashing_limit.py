"""How many passwords are hashed at once. One takes as much CPU as hundreds of other requests, and 19 MiB of memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from healthcare.api.exceptions import Busy

MOST_AT_ONCE = 2  # in each process
LONGEST_HASHING_WAIT = 1.0  # seconds

slots = threading.BoundedSemaphore(MOST_AT_ONCE)
thread = threading.local()  # `has_slot`


@contextmanager
def hashing_slot() -> Iterator[None]:
    """Wait for a slot, and hold it during the block. Raises Busy (503) if none is free in time.

    A caller that counts an attempt takes its slot before that, so that a 503 is not counted. Blocks may be nested.
    """
    if getattr(thread, "has_slot", False):
        yield
        return
    if not slots.acquire(timeout=LONGEST_HASHING_WAIT):
        raise Busy
    thread.has_slot = True
    try:
        yield
    finally:
        thread.has_slot = False
        slots.release()
