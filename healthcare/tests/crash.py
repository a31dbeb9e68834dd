"""Kills a server's processes under a write load, and reports writes that were lost or applied twice.

The long run: `python -m healthcare.tests.crash --kills 600`, 200 times each a worker, a backend and the postmaster;
about a quarter of an hour. A short one is part of the tests. It prints its figures; the exit status is 1 when anything
is wrong.
"""

import argparse
import itertools
import os
import random
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Protocol

import psutil
import psycopg2

from healthcare.embedded.home import POSTGRES_PORT, Home, resolve_home
from healthcare.project import PROJECT
from healthcare.tests.live import Answer, LiveServer, free_port
from healthcare.tests.memory_folder import create_folder
from healthcare.tests.pytest_environment import TEST_ENVIRONMENT

WORKERS, LOAD_WRITERS, RECOVERY_TIMEOUT = 2, 4, 120  # the timeout in seconds, for a busy machine
EVENTS = "SELECT id, count(*) FROM patients_patientevent GROUP BY 1"


class LoadTarget(Protocol):
    """What the load calls: a server, or several that take turns."""

    def call(self, method: str, path: str, body: Any = None, token: str = "", **headers: str) -> Answer: ...


class LoadDatabase(Protocol):
    """Where the load's rows are."""

    def rows(self, statement: str) -> list[tuple[Any, ...]]: ...


def eventually(condition: Callable[[], Any]) -> Any:
    """Wait for the condition's first true value and return it. Raises TimeoutError."""
    deadline = time.monotonic() + RECOVERY_TIMEOUT
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{condition} never came true")
        time.sleep(0.01)
    return value


@dataclass
class KillableServer:
    """`manage.py serve` with its embedded PostgreSQL, and the processes that can be killed."""

    process: "subprocess.Popen[bytes]"
    home: Home
    server: LiveServer

    def worker(self) -> psutil.Process:
        """Return the oldest worker: granian gives up on one that ends twice within seconds."""
        workers: list[psutil.Process] = eventually(self._workers)
        return min(workers, key=lambda worker: worker.create_time())

    def _workers(self) -> list[psutil.Process]:
        found = [child for child in psutil.Process(self.process.pid).children() if child.status() != "zombie"]
        return found if len(found) == WORKERS else []

    def backend(self) -> psutil.Process:
        """Return a PostgreSQL backend that serves the API."""
        backends: list[psutil.Process] = eventually(self._backends)
        return random.choice(backends)

    def _backends(self) -> list[psutil.Process]:
        with suppress(psutil.Error, OSError, ValueError):
            children = self._postmaster().children()
            return [child for child in children if " healthcare [local]" in " ".join(child.cmdline())]
        return []

    def postmaster(self) -> psutil.Process:
        eventually(self._backends)
        return self._postmaster()

    def _postmaster(self) -> psutil.Process:
        return psutil.Process(int((self.home.data / "postmaster.pid").read_text(encoding="ascii").split()[0]))

    def _connect(self) -> Any:
        folder = str(self.home.socket_folder)
        with suppress(psycopg2.OperationalError):
            return psycopg2.connect(host=folder, port=POSTGRES_PORT, user="postgres", dbname="healthcare")
        return None

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        connection = eventually(self._connect)  # sessions of a killed postmaster write on until they notice
        try:
            cursor = connection.cursor()
            cursor.execute(statement)
            connection.commit()
            return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


@contextmanager
def killable_server() -> Iterator[KillableServer]:
    """Yield a server with its database in a new folder, and remove both at the end."""
    folder = create_folder()
    url, port = f"embedded://{folder}/home", free_port()
    own = {"DATABASE_URL": url, "THROTTLE_SCALE": "1000000", "ACCESS_TOKEN_MINUTES": "1440", "DRAIN_SECONDS": "0"}
    environment = {**os.environ, **TEST_ENVIRONMENT, **own, "DJANGO_SETTINGS_MODULE": "healthcare.settings"}
    command = [sys.executable, "-m", "django", "serve", f"127.0.0.1:{port}", "--workers", str(WORKERS)]
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=log, stderr=log)
    try:
        server = LiveServer("127.0.0.1", port, url, environment)
        eventually(lambda: process.poll() is not None or attempt(lambda: server.call("GET", "/readyz"), [200]))
        yield KillableServer(process, resolve_home(folder / "home"), server)
    finally:
        process.terminate()
        process.wait(RECOVERY_TIMEOUT)
        shutil.rmtree(folder)


def attempt(call: Callable[[], Answer], wanted: list[int]) -> Answer | None:
    """The answer if it is one of those wanted; None when it is unknown what became of the call."""
    with suppress(OSError, HTTPException):
        answer = call()
        if answer.status in wanted:
            return answer
        if answer.status not in {409, 500, 503}:
            raise AssertionError(f"{answer.status}: {answer.body!r}")
    return None


@dataclass
class Load:
    """Writers that create and change patients. They repeat each POST with its idempotency key until it succeeds."""

    server: LoadTarget
    token: str
    created: dict[str, int] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    sent_again: int = 0
    replayed: int = 0
    broken: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def write(self, writer: int) -> None:
        try:
            for number in itertools.count():
                if self.ended.is_set():
                    return
                self.create(f"{writer}-{number}")
        except Exception as error:  # noqa: BLE001  (reported at the end)
            self.broken.append(repr(error))

    def create(self, name: str) -> None:
        key, body = uuid.uuid4().hex, {"name": name}
        calls = itertools.count()

        def post() -> Answer | None:
            self.sent_again += next(calls) > 0
            send = lambda: self.server.call("POST", "/api/patients/", body, self.token, Idempotency_Key=key)  # noqa: E731
            return attempt(send, [201])

        answer = eventually(post)
        self.replayed += "Idempotency-Replayed" in answer.headers
        patient = int(answer.json["id"])
        self.created[name] = patient
        path = f"/api/patients/{patient}/"
        if attempt(lambda: self.server.call("PATCH", path, {"address": name}, self.token), [200]):
            self.changed.add(patient)

    def find_faults(self, target: LoadDatabase) -> list[str]:
        """Compare the database with the answers, and return each difference as a sentence."""
        rows = target.rows("SELECT id, name, address, version FROM patients_patient")
        events = dict(target.rows(EVENTS))
        ids = {row[0] for row in rows}
        found = list(self.broken)
        found += [f"{name} was answered and is lost" for name, patient in self.created.items() if patient not in ids]
        found += [f"{name} is there and was not answered" for id_, name, *_ in rows if self.created.get(name) != id_]
        found += [f"the change of {row[1]} is lost" for row in rows if row[0] in self.changed and row[1] != row[2]]
        # The first version is an event, and so is every later one.
        return found + [f"{row[1]} has {events.get(row[0])} events" for row in rows if events.get(row[0]) != row[3]]


@dataclass
class Figures:
    """The result of a run. `recoveries` are the seconds from a kill to new answers, by the kind of process."""

    recoveries: dict[str, list[float]]
    created: int
    changed: int
    sent_again: int
    replayed: int
    faults: list[str]

    def __str__(self) -> str:
        lines = [
            f"{kind} killed {len(seconds)} times, writing again after {sum(seconds) / len(seconds):.1f} s, "
            f"{max(seconds):.1f} s at most"
            for kind, seconds in self.recoveries.items()
            if seconds
        ]
        lines.append(
            f"{self.created} created, {self.changed} changed, {self.sent_again} times sent again, of which "
            f"{self.replayed} had happened; {len(self.faults)} faults"
        )
        return "\n".join(lines + self.faults)


def kill_under_load(target: KillableServer, kills: int, say: Callable[[str], Any] = str) -> tuple[Load, Figures]:
    """Kill a worker, a backend and the postmaster in turn while the load runs."""
    load = Load(target.server, target.server.register()[1]["access"])
    writers = [threading.Thread(target=load.write, args=[number]) for number in range(LOAD_WRITERS)]
    victims = {"worker": target.worker, "backend": target.backend, "postmaster": target.postmaster}
    recoveries: dict[str, list[float]] = {kind: [] for kind in victims}
    for writer in writers:
        writer.start()
    try:
        for number, kind in zip(range(kills), itertools.cycle(victims), strict=False):
            time.sleep(random.uniform(0, 0.5))
            with suppress(psutil.NoSuchProcess):
                victims[kind]().kill()
            recoveries[kind].append(seconds_until_written(load))
            say(f"{number + 1} {kind} {recoveries[kind][-1]:.2f} s")
    finally:
        load.ended.set()
        for writer in writers:
            writer.join()
    faults = load.find_faults(target)
    return load, Figures(recoveries, len(load.created), len(load.changed), load.sent_again, load.replayed, faults)


def seconds_until_written(load: Load) -> float:
    """Wait until more records were created than requests can have been in flight; return the seconds."""
    began, before = time.monotonic(), len(load.created)
    eventually(lambda: load.broken or len(load.created) > before + LOAD_WRITERS)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=600, help="in all; %(default)s")
    with killable_server() as served:
        _, figures = kill_under_load(served, parser.parse_args().kills, lambda text: print(text, flush=True))
    print(figures)
    sys.exit(bool(figures.faults))


if __name__ == "__main__":
    main()
