"""The process behind METRICS: /metrics, /healthz and /readyz for those who operate the server.

It shares nothing with the workers but the memory of the metrics, so it answers however busy they are. One event loop
holds the connections, so slow clients occupy no thread, and scrapes that arrive together share one answer.
"""

import asyncio
import http
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterable

import django
from django.apps import apps

from healthcare.api.health_checks import answer_health_check
from healthcare.operations import health
from healthcare.operations.database_gauges import DatabaseGauges
from healthcare.operations.metrics import DRAIN_ANNOUNCED, MetricsMemory
from healthcare.operations.metrics_text import METRICS_CONTENT_TYPE, Gauge, Labels, render
from healthcare.operations.output import format_output
from healthcare.operations.readiness import REMEDIES

TIMEOUT = 5.0  # seconds for a client to send its request and take the answer
MAX_REQUEST_BYTES = 16 * 1024
MAX_SCRAPES = 200  # the oldest is closed for a newer one
INDEX = b"/metrics /healthz /readyz\n"


def run_endpoint(listener: socket.socket, memory: MetricsMemory) -> None:
    """Serve until the parent kills this process, or has ended. It outlives the workers, to tell that they stop."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=exit_with_parent, daemon=True).start()
    format_output()
    if not apps.ready:  # in a spawned process, as on macOS
        django.setup()
    gauges = DatabaseGauges()
    gauges.start()
    threading.Thread(target=health.monitor.start, daemon=True).start()  # waits for its first result
    asyncio.run(Endpoint(memory, gauges).serve(listener))


def exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(0)


class Endpoint:
    def __init__(self, memory: MetricsMemory, gauges: DatabaseGauges) -> None:
        self.memory, self.gauges = memory, gauges
        self.connections: dict[asyncio.StreamWriter, None] = {}  # in the order of their arrival
        self.running: asyncio.Task[bytes] | None = None  # the rendering that runs, and the one that follows it
        self.following: asyncio.Task[bytes] | None = None

    async def serve(self, listener: socket.socket) -> None:
        server = await asyncio.start_server(self.handle, sock=listener, limit=MAX_REQUEST_BYTES)
        await server.serve_forever()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and end the connection."""
        self.connections[writer] = None
        if len(self.connections) > MAX_SCRAPES:
            next(iter(self.connections)).transport.abort()
        writer.transport.set_write_buffer_limits(0)  # `drain` waits until everything is sent
        try:
            async with asyncio.timeout(TIMEOUT):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self.answer(request))
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            writer.transport.abort()
        finally:
            self.connections.pop(writer, None)
            writer.close()

    async def answer(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b"\r\n")[0].partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
        if method not in {b"GET", b"HEAD"}:
            return response(405, [("Allow", "GET, HEAD")], b"")
        health.monitor.draining = bool(self.memory.cells[DRAIN_ANNOUNCED])
        checked = answer_health_check(path)
        if checked:
            answer = response(checked.status, checked.headers.items(), checked.body)
        elif path == "/metrics":
            answer = await self.metrics()
        else:
            answer = response(200 if path == "/" else 404, [("Content-Type", "text/plain")], INDEX)
        return answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if method == b"HEAD" else answer

    async def metrics(self) -> bytes:
        """The text as of now or later: all requests that arrive during a rendering share the next one."""
        if self.following is None:
            self.following = asyncio.create_task(self.render_after(self.running))
        return await asyncio.shield(self.following)

    async def render_after(self, running: asyncio.Task[bytes] | None) -> bytes:
        if running:
            await asyncio.wait([running])
        self.running, self.following = self.following, None
        text = await asyncio.to_thread(render, self.memory, [*self.gauges.current(), failed_checks()])
        return response(200, [("Content-Type", METRICS_CONTENT_TYPE)], text.encode())


def failed_checks() -> Gauge:
    failed = health.monitor.failed()
    values: dict[Labels, float] = {(("check", name),): float(name in failed) for name in (*REMEDIES, health.DRAINING)}
    return "healthcare_readiness_check_failed", "1 for each check for which /readyz answers 503.", values


def response(status: int, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    fields = {"Connection": "close", **dict(headers), "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\n{head}\r\n".encode() + body
