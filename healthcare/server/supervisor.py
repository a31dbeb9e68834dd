"""The parent of the workers: it replaces those that end, and stops and restarts them on signals.

| signal to the parent | what it does |
|---|---|
| SIGTERM | each worker drains: see `healthcare.server.stopping` |
| SIGINT, as by Ctrl-C | each worker stops without draining |
| the second of these | each worker is killed at once |
| SIGHUP | each worker is replaced by a new one, which runs the code that the parent has loaded |

granian's own loop ends the server when a worker dies within 5.5 seconds of its predecessor.
"""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import wait
from typing import Any

from granian.server.mp import MPServer, WorkerProcess

from healthcare.server.wake_up import REPLACED, WakeUp, stop_signals_blocked

KILL_TIMEOUT = 20  # seconds for a worker to finish the requests in flight; a body may take BODY_SECONDS
WORKER_START_TIMEOUT = 60  # seconds for a worker to start
STABLE_AFTER = 60  # seconds; a worker that dies after more than this is replaced at once
LONGEST_PAUSE = 30  # seconds before a worker that dies repeatedly is replaced

logger = logging.getLogger("healthcare.server")


class Restarts:
    """When to replace each worker that has died: at once, or after a pause that doubles with each early death."""

    def __init__(self) -> None:
        self.early_deaths: dict[int, int] = {}
        self.due: dict[int, float] = {}  # time.monotonic()

    def add(self, index: int, lived: float, now: float) -> float:
        """Schedule the replacement of a worker that died after `lived` seconds. Returns the pause before it."""
        deaths = self.early_deaths[index] = 1 if lived >= STABLE_AFTER else self.early_deaths.get(index, 0) + 1
        pause = 0.0 if deaths == 1 else min(2.0 ** (deaths - 2), LONGEST_PAUSE)
        self.due[index] = now + pause
        return pause

    def take_due(self, now: float) -> list[int]:
        due = [index for index, at in self.due.items() if at <= now]
        for index in due:
            del self.due[index]
        return due

    def seconds_until_next(self, now: float) -> float | None:
        """None if nothing is scheduled."""
        return max(0.0, min(self.due.values()) - now) if self.due else None


class Supervisor(MPServer):
    """granian's server with another loop. `start_up` is released by each worker once it accepts connections."""

    def __init__(self, *arguments: Any, drain_seconds: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.main_loop_interrupt: Any = WakeUp()
        self.drain_seconds = drain_seconds
        self.start_up: Any = multiprocessing.Semaphore(0)
        self.has_started = False
        self.restarts = Restarts()
        self.stop_signal = signal.SIGTERM
        self.exit_code = 0
        self.replaced: list[WorkerProcess] = []

    # granian's handler of signals, as is its `signal_handler_reload`.

    def signal_handler_interrupt(self, number: int = signal.SIGTERM, frame: Any = None) -> None:
        if self.interrupt_signal:
            self.exit_code = 1
            for worker in [*self.wrks, *self.replaced]:
                worker.inner.kill()  # does nothing to one that has ended
        else:
            self.stop_signal = signal.Signals(number)
            for worker in [*self.wrks, *self.replaced]:  # a terminal sends SIGINT to them, too
                worker.interrupt_by_parent = True
        super().signal_handler_interrupt()  # type: ignore[no-untyped-call]

    def _spawn_workers(self, spawn_target: Any, target_loader: Any) -> None:
        for index in range(self.workers):
            self.wrks.append(self.start_worker(index, spawn_target, target_loader))

    def _serve(self, spawn_target: Any, target_loader: Any) -> None:
        self.startup(spawn_target, target_loader)  # type: ignore[no-untyped-call]
        self._serve_loop(spawn_target, target_loader)
        self.interrupt_children.clear()  # granian would exit with 1 if any worker had ever been replaced
        self.shutdown()  # type: ignore[no-untyped-call]
        if self.exit_code:
            sys.exit(self.exit_code)

    def _serve_loop(self, spawn_target: Any, target_loader: Any) -> None:
        while not self.interrupt_signal:
            self.main_loop_interrupt.wait(self.restarts.seconds_until_next(time.monotonic()))
            while self.interrupt_children and not self.interrupt_signal:
                if not self.note_death(self.interrupt_children.pop()):
                    return
            for index in self.restarts.take_due(time.monotonic()):
                self.wrks[index] = self.start_worker(index, spawn_target, target_loader)
            if self.reload_signal and not self.interrupt_signal:
                self.reload_signal = False
                logger.warning("SIGHUP restarts workers and does not load new code; restart instead")
                self.replace_workers(spawn_target, target_loader)

    def note_death(self, index: int) -> bool:
        """Schedule the replacement of a worker. False if it has died and no worker has started yet: none ever will."""
        worker = self.wrks[index]
        if not has_ended(worker):
            return True  # this was one that should have replaced it
        self.has_started = self.has_started or self.start_up.acquire(block=False)
        if not self.has_started:
            logger.error("worker %d has ended before it could serve; the server stops", index + 1)
            self.exit_code = 1
            return False
        pause = self.restarts.add(index, time.monotonic() - worker.birth, time.monotonic())
        status = worker.inner.exitcode
        logger.error("worker %d has ended with status %s; it is replaced in %d s", index + 1, status, pause)
        return True

    def start_worker(self, index: int, spawn_target: Any, target_loader: Any) -> WorkerProcess:
        worker: WorkerProcess = self._spawn_worker(idx=index, target=spawn_target, callback_loader=target_loader)
        with stop_signals_blocked():  # the handlers of this process would run in a worker that has just been forked
            worker.start()  # type: ignore[no-untyped-call]
        return worker

    def replace_workers(self, spawn_target: Any, target_loader: Any) -> None:
        """Start a new worker for each one, and stop the old one when the new one accepts connections."""
        if not self.wait_for_replaced():
            return
        for index in range(self.workers):
            old = self.wrks[index]
            while self.start_up.acquire(block=False):
                self.has_started = True
            new = self.start_worker(index, spawn_target, target_loader)
            self.wrks[index] = new
            self.replaced.append(old)
            if not self.wait_for_start(new):
                self.wrks[index] = old
                self.replaced.remove(old)
                return
            if self.interrupt_signal:
                return  # `_stop_workers` stops both
            threading.Thread(target=self.stop_worker, args=[old, REPLACED], daemon=True).start()

    def wait_for_replaced(self) -> bool:
        """Wait until the workers that have been replaced have ended, so that no more than two exist of each. False if
        the server is stopping."""
        while not all(has_ended(worker) for worker in self.replaced):
            if self.interrupt_signal:
                return False
            time.sleep(0.1)
        self.replaced.clear()
        return True

    def wait_for_start(self, worker: WorkerProcess) -> bool:
        deadline = time.monotonic() + WORKER_START_TIMEOUT
        while not self.start_up.acquire(timeout=0.2):
            if self.interrupt_signal:
                break
            if has_ended(worker) or time.monotonic() > deadline:
                logger.error("a new worker has not started; the old one goes on")
                worker.inner.kill()
                return False
        return True

    def stop_worker(self, worker: WorkerProcess, number: int) -> None:
        worker.interrupt_by_parent = True
        if not has_ended(worker):
            os.kill(worker.inner.pid, number)
        if not has_ended(worker, self.drain_seconds + KILL_TIMEOUT):
            logger.warning("worker %d has not finished its requests in time; it is killed", worker.idx + 1)
            worker.inner.kill()
            has_ended(worker, timeout=None)

    def _stop_workers(self) -> None:
        workers = [worker for worker in [*self.wrks, *self.replaced] if not has_ended(worker)]
        threads = [threading.Thread(target=self.stop_and_wake, args=[worker]) for worker in workers]
        for thread in threads:
            thread.start()
        while not all(has_ended(worker) for worker in workers):
            self.main_loop_interrupt.wait()
        for thread in threads:
            thread.join()

    def stop_and_wake(self, worker: WorkerProcess) -> None:
        self.stop_worker(worker, self.stop_signal)
        status = status_of_ended(worker)
        if status not in {0, -self.stop_signal} and not self.exit_code:  # the signal ends one that still starts
            logger.error("worker %d has ended with status %s, and its requests have no answer", worker.idx + 1, status)
            self.exit_code = 1
        self.main_loop_interrupt.set()


def has_ended(worker: WorkerProcess, timeout: float | None = 0.0) -> bool:
    """Whether the worker ends within the timeout. granian waits for it in a thread, and `Process.join` in two threads
    can report a process that has ended as alive."""
    return bool(wait([worker.inner.sentinel], timeout))


def status_of_ended(worker: WorkerProcess) -> int:
    """The status of a worker that has ended. It is None until the thread in which granian waits has it."""
    while worker.inner.exitcode is None:
        time.sleep(0.01)
    return int(worker.inner.exitcode)
