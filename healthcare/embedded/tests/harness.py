"""Client programs, and the real server that they use, in a separate home."""

import os
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from healthcare.embedded.home import Home
from healthcare.project import PROJECT

PROCESS_NAMES = ("postgres", "initdb")
TIMEOUT = 60  # seconds, for a busy machine


def eventually(condition: Callable[[], Any], timeout: float = TIMEOUT) -> Any:
    """Wait for the condition's first true value and return it. Fail the test if none comes."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{condition} never came true"
        time.sleep(0.05)
    return value


class ClientProgram:
    """A process that uses the server; see `client_program`."""

    def __init__(self, home: Path, python: str = sys.executable, **options: Any) -> None:
        command = [
            python,
            "-m",
            "healthcare.embedded.tests.client_program",
            "embedded://" + urllib.parse.quote(str(home)),
        ]
        options.setdefault("env", {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT, **options
        )

    def send(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def read_reply(self) -> str:
        assert self.process.stdout
        return str(self.process.stdout.readline()).strip()

    def request(self, line: str) -> str:
        self.send(line)
        return self.read_reply()

    def connect(self) -> str:
        """Connect, and return when the server was started."""
        reply = self.request("connect")
        assert reply.startswith("started "), reply
        return reply

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def end(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(TIMEOUT)
        self.process.stdout.close()


class ServerUnderTest:
    """The home under test, and the processes that run on it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.programs: list[ClientProgram] = []

    def program(self, **options: Any) -> ClientProgram:
        self.programs.append(ClientProgram(self.home, **options))
        return self.programs[-1]

    def processes(self) -> list[psutil.Process]:
        """Return every process of the server: those that work in its data directory."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.name().startswith(PROCESS_NAMES) and Path(process.cwd()).is_relative_to(self.home):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    @property
    def data(self) -> Path:
        return self.home / "data"

    def postmaster(self) -> psutil.Process:
        number = int((self.data / "postmaster.pid").read_text(encoding="ascii").split()[0])
        return psutil.Process(number)

    def supervisor(self) -> psutil.Process:
        return next(parent for parent in self.postmaster().parents() if "supervisor" in " ".join(parent.cmdline()))

    def stopped(self) -> bool:
        return not self.processes()


def copy_data(original: Home, home: Home) -> None:
    """Create the home, with a copy of the data directory of a home whose server is stopped."""
    home.create()
    subprocess.run(["cp", "-a", str(original.data), str(home.data)], check=True)  # -a keeps the owner


def stop_everything(server: ServerUnderTest) -> None:
    for program in server.programs:
        program.end()
    for process in server.processes():
        with suppress(psutil.Error):
            if process.name().startswith("postgres"):
                process.send_signal(signal.SIGQUIT)  # PostgreSQL's immediate shutdown
    eventually(server.stopped)
