"""CPU work in a second thread, for the time in which an import waits for PostgreSQL."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from threading import Event
from time import sleep
from typing import Any, TypeVar

Result = TypeVar("Result")


class BackgroundWork:
    """Runs a function in a second thread while the first one, which began it, waits.

    Under the GIL two busy threads slow each other down, and neither has work left while PostgreSQL is busy. So the
    function calls `pause` between its steps, which returns when the first thread waits.
    """

    def __init__(self) -> None:
        self.is_waiting = Event()
        self.threads: ThreadPoolExecutor | None = None

    def begin(self, function: Callable[[], Result]) -> Future[Result]:
        self.threads = self.threads or ThreadPoolExecutor(1, "import")
        return self.threads.submit(copy_context().run, function)  # the time zone and the language

    def pause(self) -> None:
        """Let the first thread run unless it waits. Call this about every millisecond."""
        sleep(1e-6)  # releases the GIL, which otherwise changes hands after `sys.getswitchinterval()`, 5 ms
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
        """For `connection.execute_wrapper`: the first thread waits during each statement."""
        with self.while_waiting():
            return execute(*arguments)

    def close(self) -> None:
        """Let the function run to its end without further pauses, and do not wait for it."""
        self.is_waiting.set()
        if self.threads:
            self.threads.shutdown(wait=False, cancel_futures=True)
