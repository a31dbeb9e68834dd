"""Load for requests that are answered 304, in place of wrk.

A 304 may carry the Content-Length of the answer that it stands for (RFC 9110, section 8.6), and ours do; wrk then waits
for a body that never comes.
"""

import selectors
import socket
import time
from itertools import cycle
from statistics import quantiles
from typing import Any

from benchmarks.data import Caller
from benchmarks.operations import BenchmarkRequest
from benchmarks.servers import RunningServer

END_OF_HEADERS = b"\r\n\r\n"
CONNECT_TIMEOUT = 30  # seconds


def send_conditional_load(
    server: RunningServer, request: BenchmarkRequest, caller: Caller, connections: int, seconds: int
) -> dict[str, float]:
    """As `load.send_load`: requests, seconds, refused, broken, p50 and p99 (ms)."""
    numbers = range(len(caller.samples[request.sample]))
    messages = cycle(http_message(request.filled(caller, number), caller, server) for number in numbers)
    sent_at: dict[socket.socket, float] = {}
    latencies: list[float] = []
    refused = 0
    started = time.perf_counter()
    with selectors.DefaultSelector() as selector:
        for _ in range(connections):
            opened = socket.create_connection(("127.0.0.1", server.port), timeout=CONNECT_TIMEOUT)
            selector.register(opened, selectors.EVENT_READ, bytearray())
            sent_at[opened] = time.perf_counter()
            opened.sendall(next(messages))
        while time.perf_counter() - started < seconds:
            for key, _ in selector.select(timeout=1):
                client: Any = key.fileobj
                received: bytearray = key.data
                received += client.recv(65536)
                if not received.endswith(END_OF_HEADERS):
                    continue
                now = time.perf_counter()
                latencies.append((now - sent_at[client]) * 1000)
                refused += int(received[9:12]) != request.status
                received.clear()
                sent_at[client] = now
                client.sendall(next(messages))
        elapsed = time.perf_counter() - started
        for opened in sent_at:
            opened.close()
    shares = quantiles(latencies, n=100) if len(latencies) > 1 else [0.0] * 99
    return {
        "requests": len(latencies),
        "seconds": elapsed,
        "refused": refused,
        "broken": 0,
        "p50": shares[49],
        "p99": shares[98],
    }


def http_message(request: BenchmarkRequest, caller: Caller, server: RunningServer) -> bytes:
    headers = [("Host", f"127.0.0.1:{server.port}"), ("Authorization", f"Bearer {caller.token}"), *request.headers]
    lines = [f"{request.method} {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode()
