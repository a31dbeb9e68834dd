"""The servers that are compared, each in processes of its own with two workers."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.references import statements
from benchmarks.terminal import print_line
from healthcare.project import PROJECT

BUILD = PROJECT / "build" / "benchmarks"
REFERENCES = PROJECT / "benchmarks" / "references"
WORKERS = "2"
PYTHON = (sys.executable,)
GUNICORN = (*PYTHON, "-m", "gunicorn", "--workers", WORKERS, "--log-level", "warning", "--bind", "127.0.0.1:{port}")
THREADS = ("--worker-class", "gthread", "--threads", "4")  # gunicorn's sync workers close every connection
UVICORN = (
    *(*PYTHON, "-m", "uvicorn", "--workers", WORKERS, "--log-level", "warning", "--no-access-log"),
    *("--port", "{port}"),
)
GRANIAN = (
    *(*PYTHON, "-m", "granian", "--interface", "wsgi", "--workers", WORKERS, "--runtime-mode", "mt"),
    *("--blocking-threads", "4", "--no-ws", "--http", "1", "--log-level", "warning"),
    *("--host", "127.0.0.1", "--port", "{port}", "benchmarks.references.floor.wsgi:application"),
)
# One key and one set of rules for all: a token of ours is valid everywhere.
ENVIRONMENT = {
    "SECRET_KEY": "benchmarks-benchmarks-benchmarks-benchmarks-0123456789",
    "JWT_SIGNING_KEY": "benchmarks-benchmarks-benchmarks-benchmarks",
    "DEBUG": "False",
    "HTTPS": "False",
    "ALLOWED_HOSTS": "127.0.0.1",
    "ACCESS_TOKEN_MINUTES": "1440",
    "DRAIN_SECONDS": "0",
    "THROTTLE_SCALE": "1000000",
}
STATEMENTS = BUILD / "statements.json"
GO_PROGRAM = BUILD / "go" / "server"
GO_PATH = Path("/usr/share/gocode")  # where Debian's golang-…-dev packages put their source
FASTIFY = BUILD / "fastify"
SEARCHES = frozenset({"search hit", "search miss"})


class NotInstalledError(Exception):
    """This machine lacks the toolchain of a reference; the text says how to install it."""


@dataclass(frozen=True)
class BenchmarkServer:
    """`database` is one of "product", "plain" and "indexed"; `paging` as `operations.plain_requests` takes it;
    `without` are the operations that it does not have; `build` raises NotInstalledError; `warm_up` is how many seconds
    of load an operation gets before it is measured."""

    name: str
    database: str
    paging: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    build: Callable[[], None] | None = None
    warm_up: int = 1


def build_go() -> None:
    if not shutil.which("go") or not (GO_PATH / "src/github.com/jackc/pgx/v4").is_dir():
        raise NotInstalledError("apt-get install golang-go golang-github-jackc-pgx-v4-dev")
    GO_PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "GOPATH": str(GO_PATH), "GO111MODULE": "off"}
    command = ["go", "build", "-o", str(GO_PROGRAM), "."]
    subprocess.run(command, cwd=REFERENCES / "go", env=environment, check=True)


def build_fastify() -> None:
    if not shutil.which("node") or not shutil.which("npm"):
        raise NotInstalledError("install Node.js 20 or newer, with npm")
    sources = [REFERENCES / "fastify" / name for name in ("package.json", "package-lock.json")]
    if all((FASTIFY / one.name).exists() and (FASTIFY / one.name).read_bytes() == one.read_bytes() for one in sources):
        return
    shutil.rmtree(FASTIFY, ignore_errors=True)
    FASTIFY.mkdir(parents=True)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--loglevel", "error"]
    for source in sources:  # npm needs the lock file first; package.json comes last and marks a finished installation
        shutil.copy(source, FASTIFY)
    try:
        subprocess.run(command, cwd=FASTIFY, check=True, stdout=subprocess.DEVNULL)
    except BaseException:
        shutil.rmtree(FASTIFY, ignore_errors=True)
        raise


OURS = BenchmarkServer(
    "ours", "product", "encrypted cursor", (*PYTHON, "manage.py", "serve", "127.0.0.1:{port}", "--workers", WORKERS)
)
SERVERS = [
    OURS,
    BenchmarkServer("stock", "plain", "page", (*GUNICORN, "benchmarks.references.stock.wsgi")),
    BenchmarkServer("stock+index", "indexed", "page", (*GUNICORN, "benchmarks.references.stock.wsgi")),
    BenchmarkServer("ninja", "indexed", "page", (*GUNICORN, *THREADS, "benchmarks.references.ninja.wsgi")),
    BenchmarkServer("fastapi", "indexed", "offset", (*UVICORN, "benchmarks.references.fastapi.main:app")),
    BenchmarkServer("floor", "product", "cursor", GRANIAN, without=SEARCHES),
    BenchmarkServer("floor+plan", "product", "cursor", GRANIAN, {"FLOOR_PREPARES": "1"}, SEARCHES),
    BenchmarkServer(
        "fastify",
        "product",
        "cursor",
        ("node", str(REFERENCES / "fastify" / "server.js")),
        {"PORT": "{port}", "WORKERS": WORKERS, "NODE_PATH": str(FASTIFY / "node_modules"), "NODE_ENV": "production"},
        SEARCHES | {"login"},
        build_fastify,
        warm_up=6,  # the just-in-time compiler works through some 10,000 requests
    ),
    BenchmarkServer(
        "go",
        "product",
        "cursor",
        (str(GO_PROGRAM),),
        {"PORT": "{port}", "GOMAXPROCS": WORKERS},
        SEARCHES | {"login"},
        build_go,
    ),
]


@dataclass(frozen=True)
class RunningServer:
    server: BenchmarkServer
    port: int
    process: psutil.Process

    @property
    def name(self) -> str:
        return self.server.name

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def choose_servers(names: list[str]) -> list[BenchmarkServer]:
    """The servers with these names, or all, without those whose toolchain is missing; builds what must be built."""
    BUILD.mkdir(parents=True, exist_ok=True)
    statements.write_json(STATEMENTS)
    chosen = []
    for server in SERVERS:
        if names and server.name not in names:
            continue
        try:
            if server.build:
                server.build()
        except NotInstalledError as error:
            print_line(f"Without {server.name}: {error}.")
        else:
            chosen.append(server)
    return chosen


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def run_server(server: BenchmarkServer, database_url: str, log: Path) -> Iterator[RunningServer]:
    """The server, from its first answer to the end of the block. What it prints goes to the log."""
    port = free_port()
    command = [part.format(port=port) for part in server.command]
    own = {name: value.format(port=port) for name, value in server.environment.items()}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**os.environ, **ENVIRONMENT, **own, "DATABASE_URL": database_url, "STATEMENTS": str(STATEMENTS)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        wait_until_answering(process, port, server.name, log)
        yield RunningServer(server, port, psutil.Process(process.pid))
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
