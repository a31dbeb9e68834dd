"""Upgrades two servers behind HAProxy, one after the other, while clients call them: no request may fail.

The old release is this code, and the new one a copy of it with a further field and its migrations. `migrate` of the new
one runs first; then each server in turn stops and starts with the new code, so that for a while one of each release
serves. `scripts/rolling_upgrade` does it with the recipe's proxy, which repeats requests, and with one that repeats
none. It prints what was counted, and exits with 1 if a request has failed, or if a patient that was acknowledged is not
stored exactly once.
"""

import argparse
import http.client
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from healthcare.server.queue import CONCURRENT_REQUESTS
from healthcare.tests.live import TIMEOUT, answers_ok, free_port
from healthcare.tests.memory_folder import temporary_folder
from healthcare.tests.project_copy import ProjectCopy
from healthcare.tests.proxies.proxy import APPLICATION_SETTINGS, HOST, PROJECT, Proxy, running_proxy, trusting
from healthcare.upgrades.tests.sample_release import write_sample_release

# Half of them over connections that they keep. No more than the server that is left runs at once: on a busy machine a
# request that waits would be refused after a second, which is no failure of the restart.
CLIENTS = CONCURRENT_REQUESTS
PAUSE = 0.005  # seconds between two requests of a client, so that the servers can start meanwhile
WITHOUT_REPETITION = {
    "retries 2": "retries 0",
    "option redispatch 1": "no option redispatch",
    "retry-on conn-failure empty-response": "retry-on none",
}


@dataclass
class Instance:
    """A server that can be restarted on the same port, with the code in the folder."""

    port: int
    command: list[str]
    environment: dict[str, str]
    log: Path
    folder: Path = PROJECT
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, cwd=self.folder, env=self.environment, stdout=log, stderr=log)
        deadline = time.monotonic() + TIMEOUT
        while not answers_ok(self.port, "/readyz"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server does not start: {self.log.read_text()}")
            time.sleep(0.1)

    def stop(self) -> int:
        """The exit status after SIGTERM."""
        if self.process is None or self.process.poll() is not None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT)


@dataclass
class Outcome:
    """What the clients have counted."""

    requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    acknowledged: dict[str, int] = field(default_factory=dict)  # the id by the name of a patient
    stored: Counter[str] = field(default_factory=Counter)  # the number of patients by their name
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, failure: str = "") -> None:
        with self.lock:
            self.requests += 1
            if failure:
                self.failures[failure] += 1

    @property
    def wrongly_stored(self) -> list[str]:
        """The names that were acknowledged and are not stored once, and those that are stored more than once."""
        lost = [name for name in self.acknowledged if self.stored[name] != 1]
        return lost + [name for name, number in self.stored.items() if number > 1 and name not in self.acknowledged]


class Client(threading.Thread):
    """Reads and writes patients until it is stopped."""

    def __init__(self, proxy: Proxy, token: str, patient: int, outcome: Outcome, stop: threading.Event, keep: bool):
        super().__init__(daemon=True)
        self.proxy, self.token, self.patient = proxy, token, patient
        self.outcome, self.stop_event, self.keep = outcome, stop, keep
        self.context = trusting(proxy.folder)
        self.connection: http.client.HTTPSConnection | None = None

    def run(self) -> None:
        while not self.stop_event.is_set():
            action = random.choice([self.read, self.read_list, self.create, self.create_with_key])
            try:
                failure = action()
            except (OSError, http.client.HTTPException) as error:
                failure = f"{action.__name__}: {type(error).__name__}"
                self.close()
            self.outcome.count(failure)
            time.sleep(PAUSE)
        self.close()

    def close(self) -> None:
        if self.connection:
            self.connection.close()
            self.connection = None

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        if not self.keep:
            self.close()
        if self.connection is None:
            self.connection = http.client.HTTPSConnection(
                "127.0.0.1", self.proxy.secure_port, timeout=TIMEOUT, context=self.context
            )
        sent = {"Host": HOST, "Authorization": f"Bearer {self.token}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            sent["Content-Type"] = "application/json"
        self.connection.request(method, path, None if body is None else json.dumps(body), sent)
        response = self.connection.getresponse()
        content = response.read()
        return response.status, json.loads(content) if content else None

    def read(self) -> str:
        status, patient = self.call("GET", f"/api/patients/{self.patient}/")
        return "" if status == 200 and patient["id"] == self.patient else describe("read", status, patient)

    def read_list(self) -> str:
        status, patients = self.call("GET", "/api/patients/?limit=2")
        return "" if status == 200 and patients else describe("list", status, patients)

    def create(self) -> str:
        return self.create_patient({})

    def create_with_key(self) -> str:
        """Create a patient, and now and then send the request again: the answer must be the same."""
        name, key = f"Name {uuid.uuid4().hex}", {"Idempotency_Key": str(uuid.uuid4())}
        failure = self.create_patient(key, name)
        if not failure and random.random() < 0.2:
            first = self.outcome.acknowledged[name]
            failure = self.create_patient(key, name)
            if not failure and self.outcome.acknowledged[name] != first:
                failure = "create: another record for the same key"
        return failure

    def create_patient(self, headers: dict[str, str], name: str = "") -> str:
        name = name or f"Name {uuid.uuid4().hex}"
        status, patient = self.call("POST", "/api/patients/", {"name": name}, **headers)
        if status != 201:
            return describe("create", status, patient)
        with self.outcome.lock:
            self.outcome.acknowledged[name] = patient["id"]
        return ""


def describe(action: str, status: int, problem: Any) -> str:
    """What failed, and how: the detail tells an error of the proxy from one of the server."""
    return f"{action}: {status} {problem.get('detail', '') if isinstance(problem, dict) else ''}"


def restart_under_load(
    proxy: Proxy, instances: list[Instance], requests: int, prepare: Callable[[], None] = lambda: None
) -> Outcome:
    """Call `prepare`, then restart each instance in turn, while clients call the proxy; go on until there were so many
    requests."""
    token = proxy.register()[1]["access"]
    patient = proxy.call("POST", "/api/patients/", {"name": "First"}, token).json["id"]
    outcome, stop = Outcome(), threading.Event()
    clients = [Client(proxy, token, patient, outcome, stop, keep=bool(number % 2)) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        wait_until(outcome, requests // 20)
        prepare()
        for instance in instances:
            wait_until(outcome, outcome.requests + requests // 10)
            status = instance.stop()
            if status != 0:
                outcome.failures[f"exit status {status}"] += 1
            instance.start()
            time.sleep(2)  # until the proxy has seen that it is ready
        wait_until(outcome, requests)
    finally:
        stop.set()
        for client in clients:
            client.join(TIMEOUT)
    outcome.stored = stored_names(proxy, token)
    return outcome


def wait_until(outcome: Outcome, requests: int) -> None:
    deadline = time.monotonic() + TIMEOUT
    while outcome.requests < requests:
        if time.monotonic() > deadline:
            raise RuntimeError("the clients get no answers")
        time.sleep(0.05)


def stored_names(proxy: Proxy, token: str) -> Counter[str]:
    """How many patients of each name there are."""
    names: Counter[str] = Counter()
    path = "/api/patients/?limit=500&fields=name"
    while path:
        answer = proxy.call("GET", path, None, token)
        assert answer.status == 200, answer.body
        names.update(patient["name"] for patient in answer.json)
        links = (link.split(">") for link in (answer.headers["Link"] or "").split(", <https://"))
        path = next((url.partition(HOST)[2] for url, rel in links if 'rel="next"' in rel), "")
    return names


@contextmanager
def running(instances: list[Instance]) -> Iterator[list[Instance]]:
    try:
        for instance in instances:
            instance.start()
        yield instances
    finally:
        for instance in instances:
            instance.stop()


@dataclass
class ReleaseUpgrade:
    """Replaces the release of the instances."""

    instances: list[Instance]
    project: ProjectCopy

    def run(self) -> None:
        """Migrate with the new release, and have the instances start with it from now on."""
        self.project.python("manage.py", "migrate", "--verbosity", "0")
        for instance in self.instances:
            if not answers_ok(instance.port, "/readyz"):
                raise RuntimeError("a server of the old release is not ready after the migration")
            instance.folder = self.project.root


def upgrade_served_project(requests: int, *, repeating: bool) -> Outcome:
    """Upgrade two `manage.py serve` with the settings of production on one embedded PostgreSQL."""
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        environment = {
            **os.environ, **APPLICATION_SETTINGS, "DEBUG": "False", "SECRET_KEY": secrets.token_urlsafe(50),
            "DATABASE_URL": f"embedded://{folder}/home", "THROTTLE_SCALE": "1000000", "RATE_LIMIT": "0",
            "DJANGO_SETTINGS_MODULE": "healthcare.settings",
        }  # fmt: skip
        instances = [
            Instance(port, [sys.executable, "manage.py", "serve", str(port)], environment, folder / f"{port}.log")
            for port in (free_port(), free_port())
        ]
        stack.enter_context(running(instances))
        project = ProjectCopy(folder, environment=environment)
        write_sample_release(project)
        replacing = {} if repeating else WITHOUT_REPETITION
        ports = [instance.port for instance in instances]
        proxy = stack.enter_context(running_proxy("haproxy", *ports, replacing=replacing))
        outcome = restart_under_load(proxy, instances, requests, ReleaseUpgrade(instances, project).run)
        patient = proxy.call("POST", "/api/patients/", {"name": "Last"}, proxy.register()[1]["access"]).json
        if patient.get("chart_number") != f"C{patient['id']}":
            outcome.failures["the servers do not have the new release"] += 1
        return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000, help="of each run, at least; %(default)s")
    requests: int = parser.parse_args().requests
    passed = True
    for repeating in (True, False):
        started = time.monotonic()
        outcome = upgrade_served_project(requests, repeating=repeating)
        failed, wrong = sum(outcome.failures.values()), outcome.wrongly_stored
        passed = passed and not failed and not wrong
        print(
            f"{'with' if repeating else 'without'} a repeating proxy: {failed} of {outcome.requests} requests failed, "
            f"{len(wrong)} of {len(outcome.acknowledged)} acknowledged patients not stored exactly once, "
            f"{time.monotonic() - started:.0f} s {dict(outcome.failures) or ''}",
            flush=True,
        )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
