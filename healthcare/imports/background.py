"""Work for the time in which an import waits for PostgreSQL."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from threading import Event
from time import sleep
from typing import Any, TypeVar

Result = TypeVar("Result")


class BackgroundWork:
    """Runs a function in another thread while the thread that began it waits.

    Python runs one thread at a time: two that both have work would slow each other down, and then both be done when
    PostgreSQL works. So the function calls `pause` between its steps, which returns once the first thread waits.
    """

    def __init__(self) -> None:
        self.is_waiting = Event()
        self.threads: ThreadPoolExecutor | None = None

    def begin(self, function: Callable[[], Result]) -> Future[Result]:
        self.threads = self.threads or ThreadPoolExecutor(1, "import")
        return self.threads.submit(copy_context().run, function)  # the time zone and the language

    def pause(self) -> None:
        """To be called every millisecond, since the first thread goes on when this releases Python's lock."""
        sleep(1e-6)  # releases it; without that, the other thread gets it after `sys.getswitchinterval()`, 5 ms
        self.is_waiting.wait()

    @contextmanager
    def while_waiting(self) -> Iterator[None]:
        """The block in which the calling thread waits, as it does in a block around this one."""
        was_waiting = self.is_waiting.is_set()
        self.is_waiting.set()
        try:
            yield
        finally:
            if not was_waiting:
                self.is_waiting.clear()

    def execute(self, execute: Callable[..., Any], *arguments: Any) -> Any:
        """A wrapper for `connection.execute_wrapper`."""
        with self.while_waiting():
            return execute(*arguments)

    def close(self) -> None:
        """Let the function go on to its end, and do not wait for that."""
        self.is_waiting.set()
        if self.threads:
            self.threads.shutdown(wait=False, cancel_futures=True)
