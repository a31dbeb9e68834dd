"""The measurements of scripts/overload. The arguments are the server's address and the id of its process."""

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psutil

WRK_SCRIPT = Path(__file__).with_suffix(".lua")
ACCOUNT = {"name": "Load", "username": "load", "email": "load@example.org", "password": "StrongPass123"}
PEAK_CONNECTIONS, SECONDS = 16, 6
GONE = 300  # clients that close the connection as soon as they have sent a request
LEAST_GOODPUT = 0.8  # of the peak
MOST_MEMORY = 1.5  # of the memory at the peak
ATTEMPTS = 3  # of a check

Checks = Iterator[tuple[str, bool]]  # what was measured, and whether the promise holds


@dataclass(frozen=True)
class Load:
    ok: float  # answers with 200 in a second
    refused: float  # answers with 503 in a second
    others: int
    lost: int
    longest: float  # seconds


class Target:
    def __init__(self, url: str, process: int) -> None:
        self.url, self.address = url, urlsplit(url)
        [self.worker] = [child for child in psutil.Process(process).children() if "manage.py" in child.cmdline()]
        self.token = ""
        self.create("/api/auth/register/", ACCOUNT)
        self.token = self.create("/api/auth/login/", {name: ACCOUNT[name] for name in ("username", "password")})[
            "access"
        ]
        self.path = self.create_patient()

    def create_patient(self) -> str:
        return f"/api/patients/{self.create('/api/patients/', {'name': 'Ada Load'})['id']}/"

    def send(self, method: str, path: str, body: str | None = None) -> tuple[http.client.HTTPResponse, bytes]:
        client = http.client.HTTPConnection(str(self.address.hostname), self.address.port, timeout=60)
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            client.request(method, path, body, headers)
            answer = client.getresponse()
            content = answer.read()
        finally:
            client.close()
        return answer, content

    def call(self, method: str, path: str, body: str | None = None) -> tuple[http.client.HTTPResponse, bytes]:
        answer, content = self.send(method, path, body)
        if answer.status not in {200, 201}:
            sys.exit(f"{method} {path} was answered {answer.status}")
        return answer, content

    def create(self, path: str, content: dict[str, str]) -> dict[str, str]:
        _, body = self.call("POST", path, json.dumps(content))
        return dict(json.loads(body))

    def wrk(self, connections: int, path: str = "", body: str = "") -> "subprocess.Popen[str]":
        command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{SECONDS}s"]
        command += ["--timeout", "30s", "--script", str(WRK_SCRIPT), "--header", f"Authorization: Bearer {self.token}"]
        command += [self.url + (path or self.path), *(["--", body] if body else [])]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  (constants)

    def load(self, connections: int) -> Load:
        output, _ = self.wrk(connections).communicate()
        return Load(**json.loads(output.splitlines()[-1]))

    def seconds_of_next(self) -> float:
        """Until a request is answered, with those before it that are refused: the queue may be full of requests whose
        clients have just gone."""
        started = time.monotonic()
        while self.send("GET", self.path)[0].status != http.HTTPStatus.OK:
            if time.monotonic() > started + SECONDS:
                break
        return time.monotonic() - started

    def memory(self) -> int:
        return int(self.worker.memory_info().rss)

    def count_run_for_gone_clients(self) -> int:
        """Send requests for a patient whom nobody has read, and close each connection. Returns how many were run."""
        path = self.create_patient()
        host, authorization = self.address.hostname, f"Bearer {self.token}"
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {authorization}\r\n\r\n"
        clients = [socket.create_connection((host, self.address.port)) for _ in range(GONE)]
        for client in clients:
            client.sendall(request.encode())
        for client in clients:
            client.close()
        time.sleep(3)  # longer than any of them may wait
        answer, _ = self.call("GET", f"{path}access-log/?count=true&limit=1")
        return int(answer.headers["X-Total-Count"])


def check_load(target: Target, connections: int, memory: int) -> Checks:
    before = target.load(PEAK_CONNECTIONS)
    load = target.load(connections)
    seconds = target.seconds_of_next()
    peak = (before.ok + target.load(PEAK_CONNECTIONS).ok) / 2  # other load on the machine counts on both sides
    text = (
        f"{connections} connections: {load.ok:.0f} answered and {load.refused:.0f} refused in a second, "
        f"{load.ok / peak:.0%} of {peak:.0f} at {PEAK_CONNECTIONS}"
    )
    # Beyond ten times the load, wrk alone takes much of the machine.
    yield text, load.others == load.lost == 0 and (connections > 1000 or load.ok >= LEAST_GOODPUT * peak)
    yield f"the next request was answered within {seconds:.2f} s", seconds < 1
    growth = target.memory() / memory
    yield f"the worker has {target.memory() / 2**20:.0f} MiB, {growth:.2f} of that at the peak", growth < MOST_MEMORY


def check_gone_clients(target: Target) -> Checks:
    run = target.count_run_for_gone_clients()
    yield f"{run} of {GONE} requests were run whose clients had gone", run < GONE / 2


def check_flood_of_logins(target: Target) -> Checks:
    login = json.dumps({"username": "nobody", "password": "WrongPass123"})
    flood = target.wrk(64, "/api/auth/login/", login)
    slowest = 0.0
    answered = 0
    while flood.poll() is None:
        slowest = max(slowest, target.seconds_of_next())
        answered += 1
    flood.communicate()
    yield f"during a flood of logins {answered} GETs were answered, each within {slowest:.2f} s", slowest < 1


def holds(check: Callable[[], Checks]) -> bool:
    """Whether all lines of a check hold, in one of its attempts: another program may stop the machine for a second."""
    for _ in range(ATTEMPTS):
        lines = list(check())
        for text, passed in lines:
            print(f"{'ok    ' if passed else 'FAILED'} {text}", flush=True)
        if all(passed for _, passed in lines):
            return True
    return False


def main() -> None:
    target = Target(sys.argv[1], int(sys.argv[2]))
    target.load(PEAK_CONNECTIONS)  # warms up
    memory = target.memory()
    checks = [partial(check_load, target, connections, memory) for connections in (10 * PEAK_CONNECTIONS, 1500, 3000)]
    checks += [partial(check_gone_clients, target), partial(check_flood_of_logins, target)]
    if [check for check in checks if not holds(check)]:
        sys.exit("The server does not hold what docs/operations.md promises.")


if __name__ == "__main__":
    main()
