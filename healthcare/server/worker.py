"""A granian worker for WSGI that reads the body of a request before one of the few threads that answer takes it.

granian's own WSGI worker calls the application once the headers are there, so each slow body occupies a thread, without
a deadline. It also gives `X_Forwarded_For` the key of `X-Forwarded-For`, which lets a client forge what a proxy says.
granian's RSGI worker reads bodies asynchronously and hands over the headers under their names, but runs on an event
loop, which costs a request without a body twice the CPU. This worker takes the requests of the RSGI worker in granian's
threads, without an event loop: the CPU of a request without a body is that of the WSGI worker.

It uses parts of granian that are not documented, so requirements.txt pins granian to one version.
"""

import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from granian._granian import CallbackScheduler, RSGIWorker, WorkerSignal
from granian.server.common import WORKERS_METHODS
from granian.server.mp import WorkerProcess

from healthcare.server.supervisor import Supervisor
from healthcare.server.wake_up import WakeUp, stop_signals_blocked
from healthcare.server.worker_slots import WorkerSlots, load_and_count

if TYPE_CHECKING:
    from healthcare.server.processes import LoadedApplication


STREAMS_END_SECONDS = 5.0  # for the streams to notice that the worker stops


class InlineLoop:
    """In place of the event loop of granian's futures: runs their callbacks at once, in granian's thread."""

    def call_soon(self, callback: Callable[..., None], *arguments: Any, context: Any = None) -> None:
        callback(*arguments)

    call_soon_threadsafe = call_soon


class Scheduler(CallbackScheduler):
    """What granian calls with each request. The arguments are those that the base class takes in `__new__`."""

    def __init__(self, loop: InlineLoop, handle: Callable[[Any], None], *unused: None) -> None:
        super().__init__()
        self._schedule_fn = handle


class Server(Supervisor):
    slots: WorkerSlots | None = None  # where the workers count; None without METRICS

    def signal_handler_interrupt(self, number: int = signal.SIGTERM, frame: Any = None) -> None:
        if self.slots:
            self.slots.memory.announce_drain()
        super().signal_handler_interrupt(number, frame)

    def _spawn_worker(  # type: ignore[override]  # as `MPServer` overrides it
        self, idx: int, target: Any, callback_loader: Callable[[], "LoadedApplication"]
    ) -> WorkerProcess:
        """As granian's, but the worker counts in a slot that no live process has."""
        if self.slots is None:
            return super()._spawn_worker(idx, target, callback_loader)
        slot = self.slots.free_slot(idx)
        worker = super()._spawn_worker(idx, target, partial(load_and_count, callback_loader, self.slots.memory, slot))
        self.slots.assign(slot, idx, worker)
        return worker

    @staticmethod
    @WorkerProcess.wrap_target  # type: ignore[untyped-decorator]
    def _spawn_wsgi_worker(
        worker_id: int,
        loaded: "LoadedApplication",
        sock: Any,
        ipc: Any,
        _loop: Any,
        runtime_mode: Any,
        runtime_threads: int,
        runtime_blocking_threads: int | None,
        blocking_threads: int,
        blocking_threads_idle_timeout: int,
        backpressure: int,
        _task_impl: Any,
        http_mode: Any,
        http1_settings: Any,
        http2_settings: Any,
        websockets: bool,
        static_path: Any,
        _log_access_format: str | None,
        ssl_context: Any,
        _scope_options: Any,
        metrics: Any,
    ) -> None:
        """As granian's `_spawn_wsgi_worker`, but for the handler of the requests."""
        # These need Django's settings, which the parent may lack.
        from django.conf import settings

        from healthcare.operations import health
        from healthcare.server.handler import RequestHandler
        from healthcare.server.stopping import Stopping
        from healthcare.server.thread_locals import use_thread_local_connections

        wake_up, shutdown, stopped = WakeUp(), WorkerSignal(), threading.Event()

        def end() -> None:
            stopped.set()
            wake_up.set()

        shutdown.add_cb(end)
        worker_class: Any = RSGIWorker  # granian's stub lacks some of the arguments
        worker = worker_class(
            worker_id,
            sock,
            ipc,
            runtime_threads,
            runtime_blocking_threads,
            blocking_threads,
            blocking_threads_idle_timeout,
            backpressure,
            http_mode,
            http1_settings,
            http2_settings,
            websockets,
            static_path,
            *ssl_context,
            metrics,
        )
        listener = sock[0] or sock[1]
        serve = getattr(worker, WORKERS_METHODS[runtime_mode][listener.is_uds()])
        loop = InlineLoop()
        use_thread_local_connections()
        handler = RequestHandler(loaded.application)
        health.monitor.start()
        with stop_signals_blocked():  # granian's threads, too, leave them to the main thread
            Stopping(handler, settings.DRAIN_SECONDS, shutdown.set).install()
            serve(Scheduler(loop, handler.handle, None, None, None), loop, shutdown)
        loaded.start_up.release()
        while not stopped.is_set():
            wake_up.wait()
        handler.streams.wait(STREAMS_END_SECONDS)
