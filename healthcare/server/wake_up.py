"""What the main thread of a server process waits for, so that a signal always ends the wait."""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

REPLACED = signal.SIGUSR1  # tells a worker that another one has taken its place
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, REPLACED)


class WakeUp:
    """In place of a `threading.Event`, for the main thread. It has the methods of it that granian uses.

    Python runs the handlers of signals in the main thread, between two bytecodes. If a signal arrives after the last
    bytecode and before the thread sleeps, or in another thread, a wait for a lock goes on without the handler; and a
    handler that sets an Event waits for ever if the main thread holds the Event's lock. So the main thread waits for a
    byte, which Python sends at each signal, in whatever thread it arrives.
    """

    def __init__(self) -> None:
        self.receiver, self.sender = os.pipe()
        os.set_blocking(self.sender, False)
        signal.set_wakeup_fd(self.sender, warn_on_full_buffer=False)

    def set(self) -> None:
        """End this wait or the next one. Any thread and any handler of a signal may call it."""
        with suppress(BlockingIOError):  # enough bytes are there
            os.write(self.sender, b"\0")

    def wait(self, timeout: float | None = None) -> None:
        """Wait for `set` or a signal since the last wait, in the main thread. May end without either."""
        if select.select([self.receiver], [], [], timeout)[0]:
            os.read(self.receiver, 4096)


def forget_signals_of_parent() -> None:
    """In a process that has been forked with its stop signals blocked: a signal ends it from now on."""
    signal.set_wakeup_fd(-1)
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


@contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """Let signals wait until the block ends. Threads and processes that it starts do not receive them."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
