"""Real programs on a real server in a home of its own."""

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

from healthcare.embedded.home import PROJECT

NAMES = ("postgres", "initdb")
PATIENCE = 60  # seconds that anything may take on a busy machine


def eventually(condition: Callable[[], Any]) -> Any:
    """The condition's first true value; fails the test when none comes."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{condition} never came true"
        time.sleep(0.05)
    return value


class Program:
    """A process that uses the server; see `program`."""

    def __init__(self, home: Path, python: str = sys.executable, **options: Any) -> None:
        command = [python, "-m", "healthcare.embedded.tests.program", "embedded://" + urllib.parse.quote(str(home))]
        options.setdefault("env", {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT, **options
        )

    def send(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout
        return str(self.process.stdout.readline()).strip()

    def ask(self, line: str) -> str:
        self.send(line)
        return self.answer()

    def connect(self) -> str:
        """When the server that answers was started."""
        answer = self.ask("connect")
        assert answer.startswith("started "), answer
        return answer

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def end(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()


class Place:
    """The home under test, and what runs on it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.programs: list[Program] = []

    def program(self, **options: Any) -> Program:
        self.programs.append(Program(self.home, **options))
        return self.programs[-1]

    def processes(self) -> list[psutil.Process]:
        """Every process of the server: those that work in its data directory."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.name().startswith(NAMES) and Path(process.cwd()).is_relative_to(self.home):
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


def end_all(place: Place) -> None:
    for program in place.programs:
        program.end()
    for process in place.processes():
        with suppress(psutil.Error):
            if process.name().startswith("postgres"):
                process.send_signal(signal.SIGQUIT)  # PostgreSQL's immediate shutdown
    eventually(place.stopped)
