"""One slice of load: wrk against one server for some seconds, and the CPU that was used meanwhile."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import processor
from benchmarks.data import Caller
from benchmarks.operations import Request
from benchmarks.targets import Running

CONNECTIONS = 16
LEAST = 50  # answers in a slice
LONGEST = 30  # seconds
SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True)
class Slice:
    """`rate` in requests a second, `p50` and `p99` in ms, `application` and `postgresql` in CPU µs a request."""

    rate: float
    p50: float
    p99: float
    application: float
    postgresql: float

    @property
    def cpu(self) -> float:
        return self.application + self.postgresql


def run(target: Running, request: Request, caller: Caller, database: psutil.Process, seconds: int) -> Slice:
    """At least so many seconds, and more when that is too short to say anything.

    Raises RuntimeError when any answer was an error: an error page is not an answer that was fast.
    """
    before = processor.seconds(target.process), processor.seconds(database)
    result = wrk(target.url, request, caller, seconds)
    application = processor.seconds(target.process) - before[0]
    postgresql = processor.seconds(database) - before[1]
    count = result["requests"]
    if result["refused"] or result["broken"] or (not count and seconds > LONGEST):
        raise RuntimeError(f"{target.name} answered {request.path} with errors: {result}")
    if count < LEAST and seconds <= LONGEST:
        return run(target, request, caller, database, seconds * 2)
    return Slice(
        count / result["seconds"], result["p50"], result["p99"], application / count * 1e6, postgresql / count * 1e6
    )


def wrk(url: str, request: Request, caller: Caller, seconds: int) -> dict[str, float]:
    program = shutil.which("wrk")
    if program is None:
        raise RuntimeError("wrk is needed: apt-get install wrk, or brew install wrk.")
    token = caller.token if request.token else ""
    command = [program, "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds}s"]
    command += ["--latency", "--timeout", "30s", "--script", str(SCRIPT), url, "--"]
    command += [request.method, request.path, request.body, token, ",".join(caller.samples[request.sample])]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"wrk could not run: {done.stderr.strip() or done.stdout.strip()}")
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result
