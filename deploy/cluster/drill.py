"""Kills, pauses and cuts off what a cluster consists of, while two instances of the application write to it.

`python -m deploy.cluster drill` prints its figures; the exit status is 1 when an acknowledged write is lost or applied
twice, lacks its history or its row in the access log, or when a client got a wrong answer. A short run is
part of the tests.
"""

import os
import signal
import statistics
import sys
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from itertools import count
from pathlib import Path
from typing import Any

import psutil

from deploy.cluster.cluster import Cluster
from deploy.cluster.network import Network, mount_small_disk
from deploy.cluster.nodes import Node, with_children
from healthcare.project import PROJECT
from healthcare.tests.crash import Load, eventually, seconds_until_written
from healthcare.tests.live import Answer, LiveServer, free_port, migrate
from healthcare.tests.memory_folder import temporary_folder
from healthcare.tests.proxies.rolling_upgrade import Instance, running
from healthcare.tests.pytest_environment import TEST_ENVIRONMENT

DRILL_WRITERS, DRILL_READERS, READ_INTERVAL = 2, 1, 0.02  # threads, and seconds between two requests of a reader
PROBE_PERIOD = 0.25  # seconds
DISK_MIB, FULL_SECONDS = 1024, 15
SHORTEST_RETRY = 3  # seconds; loop_wait + 2 * retry_timeout <= ttl
ACCESS_ROWS = "SELECT request_id, count(*) FROM audit_accesslog GROUP BY 1"

Say = Callable[[str], Any]


class TwoInstances:
    """The instances as one server: each call goes to the next one, and its answer is checked and counted."""

    def __init__(self, servers: list[LiveServer]) -> None:
        self.servers = servers
        self.turns = count()
        self.lock = threading.Lock()
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.changes: set[str] = set()  # the request ids of acknowledged changes, whose answers show a patient
        self.reads: list[tuple[float, str]] = []  # and of answered reads, with the time of the answer

    def call(self, method: str, path: str, body: Any = None, token: str = "", **headers: str) -> Answer:
        server = self.servers[next(self.turns) % len(self.servers)]
        try:
            answer = server.call(method, path, body, token, **headers)
        except (OSError, HTTPException):
            self.count_answer("no answer")
            raise
        self.count_answer(str(answer.status))
        allowed = {200, 201} | ({503} if answer.headers["Retry-After"] else set())
        if headers and answer.status == 409:  # the first request with this Idempotency-Key has not ended yet
            allowed.add(409)
        with self.lock:
            if answer.status not in allowed:
                self.wrong.append(f"{method}: {answer.status} {answer.body!r}")
            elif answer.status < 300 and "Idempotency-Replayed" not in answer.headers:
                request_id = answer.headers["X-Request-Id"]
                if method == "GET":
                    self.reads.append((time.monotonic(), request_id))
                elif method == "PATCH":  # the answer to a POST shows what the client has sent
                    self.changes.add(request_id)
        return answer

    def count_answer(self, answer: str) -> None:
        with self.lock:
            self.answers[answer] += 1


@dataclass
class Probe:
    """Writes to one instance again and again, asks it whether it is ready, and compares."""

    server: LiveServer
    token: str
    patient: int
    stopped: threading.Event
    writes: list[tuple[float, bool]] = field(default_factory=list)  # the time of each answer, and whether it was a 200
    states: list[tuple[float, int]] = field(default_factory=list)  # time and status of /readyz; 0 without an answer

    def write_until_stopped(self) -> None:
        for number in count():
            if self.stopped.is_set():
                return
            body = {"address": f"Street {number}"}
            with suppress(OSError, HTTPException):
                answer = self.server.call("PATCH", f"/api/patients/{self.patient}/", body, self.token)
                self.writes.append((time.monotonic(), answer.status == 200))
            self.stopped.wait(PROBE_PERIOD)

    def poll_readiness(self) -> None:
        while not self.stopped.is_set():
            began, status = time.monotonic(), 0
            with suppress(OSError, HTTPException):
                status = self.server.call("GET", "/readyz").status
            self.states.append((began, status))
            self.stopped.wait(PROBE_PERIOD)

    def longest_period(self, status: int, *, acknowledged: bool) -> float:
        """The longest time in seconds that /readyz had this status while writes were acknowledged, or were not."""
        longest, since = 0.0, None
        for at, state in self.states:
            if state != status or self.could_write(at) is not acknowledged:
                since = None
                continue
            since = at if since is None else since
            longest = max(longest, at - since)
        return longest

    def could_write(self, at: float) -> bool | None:
        """Whether the write under way at this time, or the next one, was acknowledged; None if nobody knows."""
        following = bisect_left(self.writes, at, key=lambda write: write[0])
        return self.writes[following][1] if following < len(self.writes) else None


@dataclass
class DrillFigures:
    """The result of a run: the seconds from each event to new writes, by its kind, and what was wrong."""

    recoveries: dict[str, list[float]]
    lines: list[str]
    faults: list[str]

    def __str__(self) -> str:
        width = max(map(len, self.recoveries), default=0)
        table = [f"{'event':{width}}  times   least  median    most (seconds until writes succeed)"]
        for kind, seconds in self.recoveries.items():
            spread = f"{min(seconds):7.1f} {statistics.median(seconds):7.1f} {max(seconds):7.1f}"
            table.append(f"{kind:{width}}  {len(seconds):5} {spread}")
        return "\n".join([*table, *self.lines, f"{len(self.faults)} faults", *self.faults[:20]])


@dataclass
class Drill:
    """A cluster with two instances under load, and the events; each returns the function that repairs it."""

    cluster: Cluster
    instances: list[Instance]
    clients: TwoInstances
    load: Load
    say: Say
    probes: list[Probe] = field(default_factory=list)
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    events: list[float] = field(default_factory=list)  # when each began

    def measure_event(self, kind: str, event: Callable[[], Callable[[], Any]]) -> None:
        """Cause an event, measure the time until a write succeeds, repair it, and wait for a complete cluster."""
        self.events.append(time.monotonic())
        repair = event()
        seconds = seconds_until_written(self.load)
        self.recoveries.setdefault(kind, []).append(seconds)
        self.say(f"{kind}, {len(self.recoveries[kind])}: writes after {seconds:.2f} s")
        repair()
        self.cluster.wait_for(self.cluster.is_complete, "the nodes do not recover")

    def primary(self) -> Node:
        found: Node = eventually(self.cluster.primary)
        return found

    def standby(self) -> Node:
        found: Node = eventually(self.cluster.synchronous_standby)
        return found

    def kill_postgresql(self) -> Callable[[], Any]:
        """Kill every process of the primary's PostgreSQL; its Patroni goes on."""
        kill_with_children(eventually(self.primary().postmaster))
        return lambda: None

    def kill_machine(self) -> Callable[[], Any]:
        node = self.primary()
        node.kill()
        return lambda: self.cluster.restart_node(node)

    def kill_instance(self) -> Callable[[], Any]:
        instance = self.instances[len(self.recoveries.get("instance killed", [])) % len(self.instances)]
        if instance.process:
            kill_with_children(psutil.Process(instance.process.pid))
            instance.process.wait()
        return instance.start

    def pause(self, node: Node) -> Callable[[], Any]:
        node.signal_all(signal.SIGSTOP)
        return lambda: node.signal_all(signal.SIGCONT)

    def cut_off(self, node: Node) -> Callable[[], Any]:
        network = self.cluster.network
        if network is None:
            raise ValueError("the nodes share the network of this machine")
        network.cut_off(node.name)
        return lambda: network.connect(node.name)

    def fill_disk(self, node: Node) -> Callable[[], Any]:
        filler = node.folder / "disk" / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(b"\0" * 2**20):
                pass

        def free() -> None:
            time.sleep(FULL_SECONDS)  # so that the standby meets the full disk
            filler.unlink()

        return free

    def figures(self) -> DrillFigures:
        """Compare the database with the answers, after the load has ended."""
        faults = [*self.clients.wrong, *self.load.find_faults(self.cluster)]
        recorded = dict(self.cluster.rows(ACCESS_ROWS))
        faults += [
            f"the change {request_id} has {recorded.get(request_id, 0)} rows in the access log"
            for request_id in self.clients.changes
            if recorded.get(request_id) != 1
        ]
        versions = dict(self.cluster.rows("SELECT id, version FROM patients_patient"))
        for probe in self.probes:
            acknowledged = sum(done for _, done in probe.writes)
            if versions[probe.patient] <= acknowledged:
                faults.append(f"of {acknowledged} changes of {probe.patient}, {versions[probe.patient]} are there")
        lost = [at for at, request_id in self.clients.reads if request_id not in recorded]
        distances = [min((at - event for event in self.events), key=abs) for at in lost]
        ready = max(probe.longest_period(200, acknowledged=False) for probe in self.probes)
        unready = max(probe.longest_period(503, acknowledged=True) for probe in self.probes)
        lines = [
            f"{len(self.load.created)} created, {len(self.load.changed)} changed, {self.load.sent_again} times sent "
            f"again, of which {self.load.replayed} had happened; answers: {dict(self.clients.answers)}",
            f"{len(lost)} of {len(self.clients.reads)} reads lack their row in the access log"
            + (f"; the times from an event to their answers: {format_range(distances)}" if distances else ""),
            f"/readyz answered 200 for {ready:.1f} s at most while writes failed, and 503 for {unready:.1f} s at most "
            "while they succeeded",
        ]
        return DrillFigures(self.recoveries, lines, faults)


def format_range(seconds: list[float]) -> str:
    return f"{min(seconds):.2f} to {max(seconds):.2f} s"


def kill_with_children(parent: psutil.Process) -> None:
    """Kill a process and its children at once."""
    for process in with_children(parent):
        with suppress(psutil.NoSuchProcess):
            process.kill()


@contextmanager
def running_drill(cluster: Cluster, folder: Path, say: Say = str) -> Iterator[Drill]:
    """Run two instances of the application on the migrated cluster, and the load, until the block ends."""
    url = cluster.database_url
    own = {"DATABASE_URL": url, "THROTTLE_SCALE": "1000000", "ACCESS_TOKEN_MINUTES": "1440", "DRAIN_SECONDS": "0"}
    environment = {**os.environ, **TEST_ENVIRONMENT, **own, "DJANGO_SETTINGS_MODULE": "healthcare.settings"}
    serve = [sys.executable, "-m", "django", "serve", "--workers", "1"]
    servers = [LiveServer("127.0.0.1", free_port(), url, environment) for _ in range(2)]
    instances = [
        Instance(server.port, [*serve, f"127.0.0.1:{server.port}"], environment, folder / f"{server.port}.log")
        for server in servers
    ]
    with running(instances):
        clients = TwoInstances(servers)
        load = Load(clients, servers[0].register()[1]["access"])
        drill = Drill(cluster, instances, clients, load, say)
        for number, server in enumerate(servers):
            load.create(f"Probe {number}")
            patient = load.created[f"Probe {number}"]
            load.changed.discard(patient)  # its address will change again
            drill.probes.append(Probe(server, load.token, patient, load.ended))
        with load_running(drill):
            yield drill


@contextmanager
def load_running(drill: Drill) -> Iterator[None]:
    """Write, read and poll readiness until the block ends."""
    load = drill.load
    load.create("Read")
    path = f"/api/patients/{load.created['Read']}/"

    def read() -> None:
        while not load.ended.wait(READ_INTERVAL):
            with suppress(OSError, HTTPException):
                drill.clients.call("GET", path, None, load.token)

    threads = [threading.Thread(target=load.write, args=[number]) for number in range(DRILL_WRITERS)]
    threads += [threading.Thread(target=read) for _ in range(DRILL_READERS)]
    threads += [
        threading.Thread(target=work)
        for probe in drill.probes
        for work in (probe.write_until_stopped, probe.poll_readiness)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        load.ended.set()
        for thread in threads:
            thread.join()


def run_drill(times: dict[str, int], network: Network | None, say: Say, lease: int = 0) -> DrillFigures:
    """Start a cluster in a temporary folder and cause each event as often as `times` says.

    Some events need `network`. `lease` is the ttl of Patroni in seconds, if not the one of deploy/patroni.
    """
    with temporary_folder() as folder:
        return drill_cluster(Cluster(folder / "cluster", network), times, say, lease)


def drill_cluster(cluster: Cluster, times: dict[str, int], say: Say, lease: int) -> DrillFigures:
    if lease:
        cluster.allow_short_lease()
    if cluster.network:
        for node in cluster.nodes:
            node.create_folder()
            mount_small_disk(node.folder / "disk", DISK_MIB, node.account)
    try:
        cluster.start(say)
        for_small_disks = {"max_wal_size": "128MB", "min_wal_size": "64MB"}
        cluster.change_configuration({"postgresql": {"parameters": for_small_disks}})
        if lease:
            cluster.change_configuration({"ttl": lease, "retry_timeout": SHORTEST_RETRY})
        say("Migrating")
        migrate(cluster.database_url, PROJECT, DJANGO_SETTINGS_MODULE="healthcare.settings", **TEST_ENVIRONMENT)
        with running_drill(cluster, cluster.home.folder, say) as drill:
            events: dict[str, Callable[[], Callable[[], Any]]] = {
                "PostgreSQL of the primary killed": drill.kill_postgresql,
                "machine of the primary killed": drill.kill_machine,
                "instance killed": drill.kill_instance,
                "primary paused": lambda: drill.pause(drill.primary()),
                "standby paused": lambda: drill.pause(drill.standby()),
                "primary cut off": lambda: drill.cut_off(drill.primary()),
                "standby cut off": lambda: drill.cut_off(drill.standby()),
                "disk of a standby full": lambda: drill.fill_disk(drill.standby()),
            }
            for kind, number in times.items():
                for _ in range(number):
                    drill.measure_event(kind, events[kind])
        return drill.figures()
    finally:
        cluster.stop()
