"""The servers that are compared, each in processes of its own with two workers."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

PROJECT = Path(__file__).resolve().parent.parent
WORKERS = "2"
GUNICORN = ("-m", "gunicorn", "--workers", WORKERS, "--log-level", "warning", "--bind", "127.0.0.1:{port}")
KEPT_ALIVE = ("--worker-class", "gthread", "--threads", "4")
UVICORN = ("-m", "uvicorn", "--workers", WORKERS, "--log-level", "warning", "--no-access-log", "--port", "{port}")
GRANIAN = (
    *("-m", "granian", "--interface", "wsgi", "--workers", WORKERS, "--runtime-mode", "mt", "--blocking-threads", "4"),
    *("--no-ws", "--http", "1", "--log-level", "warning", "--host", "127.0.0.1", "--port", "{port}"),
)
# One key and one set of rules for all: a token of ours is good everywhere.
ENVIRONMENT = {
    "SECRET_KEY": "benchmarks-benchmarks-benchmarks-benchmarks-0123456789",
    "JWT_SIGNING_KEY": "benchmarks-benchmarks-benchmarks-benchmarks",
    "DEBUG": "False",
    "HTTPS": "False",
    "ALLOWED_HOSTS": "127.0.0.1",
    "ACCESS_TOKEN_MINUTES": "1440",
    "THROTTLE_SCALE": "1000000",
}


@dataclass(frozen=True)
class Target:
    """`database` is one of "product", "plain" and "indexed"; `paging` as `operations.requests` takes it."""

    name: str
    database: str
    paging: str
    command: tuple[str, ...]


TARGETS = [
    Target("ours", "product", "cursor", ("manage.py", "serve", "127.0.0.1:{port}", "--workers", WORKERS)),
    Target("stock", "plain", "page", (*GUNICORN, "benchmarks.references.stock.wsgi")),
    Target("stock+index", "indexed", "page", (*GUNICORN, "benchmarks.references.stock.wsgi")),
    Target("ninja", "indexed", "page", (*GUNICORN, *KEPT_ALIVE, "benchmarks.references.ninja.wsgi")),
    Target("fastapi", "indexed", "offset", (*UVICORN, "benchmarks.references.fastapi.main:app")),
    Target("floor", "product", "cursor", (*GRANIAN, "benchmarks.references.floor.wsgi:application")),
]
CANNOT_SEARCH = {"floor"}


@dataclass(frozen=True)
class Running:
    target: Target
    port: int
    process: psutil.Process

    @property
    def name(self) -> str:
        return self.target.name

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(target: Target, database_url: str, log: Path) -> Iterator[Running]:
    """The server, from its first answer to the end of the block. What it prints goes to the log."""
    port = free_port()
    command = [sys.executable, *(part.format(port=port) for part in target.command)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**os.environ, **ENVIRONMENT, "DATABASE_URL": database_url},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        wait_until_answering(process, port, target.name, log)
        yield Running(target, port, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(30)


def wait_until_answering(process: "subprocess.Popen[bytes]", port: int, name: str, log: Path) -> None:
    for _ in range(1200):
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended with {process.returncode}; see {log}.")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{name} does not answer; see {log}.")
