"""Slices of load: wrk against one server for some seconds, and the CPU time that was used meanwhile."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from benchmarks import process_tree
from benchmarks.conditional_load import send_conditional_load
from benchmarks.data import Caller
from benchmarks.equal_answers import with_entity_tags
from benchmarks.operations import BenchmarkRequest
from benchmarks.servers import RunningServer
from benchmarks.terminal import show_status

LEAST_ANSWERS = 50  # in a slice
LONGEST_RUN = 30  # seconds
SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True)
class Slice:
    """`rate` in requests a second, `p50` and `p99` in ms; the CPU of the processes in µs a request."""

    rate: float
    p50: float
    p99: float
    application: float
    postgresql: float
    others: float = 0.0

    @property
    def cpu(self) -> float:
        return self.application + self.postgresql + self.others


@dataclass(frozen=True)
class Contender:
    """One of the requests that are measured side by side. `others` are processes that it uses beside its server and
    PostgreSQL: a pooler or replicas."""

    name: str
    server: RunningServer
    request: BenchmarkRequest
    caller: Caller
    others: tuple[psutil.Process, ...] = ()


def measure_interleaved(
    contenders: Sequence[Contender], postgresql: psutil.Process, rounds: int, seconds: int
) -> dict[str, list[Slice]]:
    """By contender a slice of each round; in a round every contender has its turn (A B C, A B C)."""
    for contender in contenders:
        warm_up(contender)
    measured: dict[str, list[Slice]] = {contender.name: [] for contender in contenders}
    for turn in range(1, rounds + 1):
        for contender in contenders:
            show_status(f"round {turn} of {rounds}: {contender.name}")
            measured[contender.name].append(measure_slice(contender, postgresql, seconds))
    show_status("")
    return measured


def measure_slice(contender: Contender, postgresql: psutil.Process, seconds: int) -> Slice:
    """At least so many seconds, more when too few requests are answered in them.

    Raises RuntimeError when an answer has another status than the request expects, or does not arrive.
    """
    contender = with_current_tags(contender)  # before the CPU is read
    processes = [contender.server.process, postgresql, *contender.others]
    before = [process_tree.cpu_seconds(process) for process in processes]
    result = send_load(contender, seconds)
    used = [process_tree.cpu_seconds(process) - earlier for process, earlier in zip(processes, before, strict=True)]
    count = result["requests"]
    if result["refused"] or result["broken"] or (not count and seconds > LONGEST_RUN):
        raise RuntimeError(f"{contender.server.name} answered {contender.request.path} with errors: {result}")
    if count < LEAST_ANSWERS and seconds <= LONGEST_RUN:
        return measure_slice(contender, postgresql, seconds * 2)
    application, database, *others = (seconds_of / count * 1e6 for seconds_of in used)
    return Slice(count / result["seconds"], result["p50"], result["p99"], application, database, sum(others))


def with_current_tags(contender: Contender) -> Contender:
    """The contender with the current entity tags where its request sends them."""
    if contender.request.sample != "tagged":
        return contender
    return replace(contender, caller=with_entity_tags(contender.server, contender.caller))


def warm_up(contender: Contender) -> None:
    send_load(with_current_tags(contender), contender.server.server.warm_up)


def send_load(contender: Contender, seconds: int) -> dict[str, float]:
    """By name: requests, seconds, refused (answers of another status), broken (no answer), p50 and p99 (ms)."""
    program = shutil.which("wrk")
    if program is None:
        raise RuntimeError("wrk is needed: apt-get install wrk, or brew install wrk.")
    request, caller = contender.request, contender.caller
    if request.status == 304:
        return send_conditional_load(contender.server, request, caller, request.connections, seconds)
    command = [program, "--threads", "1", "--connections", str(request.connections), "--duration", f"{seconds}s"]
    command += ["--latency", "--timeout", "30s", "--script", str(SCRIPT), contender.server.url, "--"]
    command += [request.method, request.path, request.body, caller.token if request.token else "", str(request.status)]
    command += [",".join(caller.samples[request.sample]), *(part for header in request.headers for part in header)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"wrk could not run: {done.stderr.strip() or done.stdout.strip()}")
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result
