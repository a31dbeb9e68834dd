"""Where the server spends its time, operation by operation: py-spy samples its workers while they are under load.

Only the thread that holds the interpreter's lock is sampled: a thread that waits for PostgreSQL spends no CPU.
"""

import argparse
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from benchmarks.load import Contender, measure_slice, warm_up
from benchmarks.operations import EVERYDAY_CALLS, plain_requests
from benchmarks.servers import OURS, RunningServer
from benchmarks.terminal import print_line
from benchmarks.testbed import start_testbed

FRAME = re.compile(r"(?P<function>.+) \((?P<file>[^:()]+)(:\d+)?\)")
MOST_FUNCTIONS = 40
COMMON = 0.8  # share of the samples: a function that every request runs tells nothing
RATE = 500  # samples a second


def run(options: argparse.Namespace, folder: Path) -> str:
    """A report in Markdown; the stacks themselves stay in the folder, for a flame graph."""
    parts = []
    with start_testbed(folder, options.servers or ["ours"], options.patients) as testbed:
        for server in testbed.servers:
            requests = plain_requests(testbed.caller, server.server.paging)
            if server.server is OURS:
                requests |= {name: call.request for name, call in EVERYDAY_CALLS.items()}
            for operation in options.operations:
                if operation not in requests or operation in server.server.without:
                    continue
                print_line(f"Sampling {server.name}: {operation}…")
                contender = Contender(operation, server, requests[operation], testbed.caller)
                warm_up(contender)
                stacks = folder / f"{server.name}-{re.sub('[^a-z0-9]+', '-', operation.lower())}.stacks"
                sampling = start_sampling(server, stacks, options.seconds)
                measure_slice(contender, testbed.postgresql, options.seconds + 1)
                if sampling.wait(60):
                    raise RuntimeError("py-spy could not sample the server; it needs the right to trace it.")
                parts.append(f"## {server.name}: {operation}\n\n{summary(stacks)}\n")
    return "\n".join(parts)


def start_sampling(server: RunningServer, stacks: Path, seconds: int) -> "subprocess.Popen[bytes]":
    program = Path(sys.executable).with_name("py-spy")
    command = [str(program), "record", "--pid", str(server.process.pid), "--subprocesses", "--format", "raw"]
    command += ["--rate", str(RATE), "--duration", str(seconds), "--gil", "--nonblocking", "--output", str(stacks)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def summary(stacks: Path) -> str:
    """Shares of the samples: by package of its own code, by function including what it calls."""
    packages: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    total = 0
    for line in stacks.read_text(encoding="utf-8").splitlines():
        stack, _, count = line.rpartition(" ")
        found = filter(None, map(FRAME.fullmatch, stack.split(";")))
        frames = [(frame["function"], path_in_package(frame["file"])) for frame in found]
        if not frames:
            continue
        total += int(count)
        packages[package_of(frames[-1][1])] += int(count)
        functions.update(dict.fromkeys({f"{function} ({file})" for function, file in frames}, int(count)))
    own = ", ".join(f"{name} {count / total:.0%}" for name, count in packages.most_common(12))
    frequent = [(name, count / total) for name, count in functions.most_common() if count < COMMON * total]
    rows = "\n".join(f"{share:6.1%}  {name}" for name, share in frequent[:MOST_FUNCTIONS])
    return f"By package: {own}.\n\n```\n{rows}\n```"


def path_in_package(file: str) -> str:
    """The file's path, beginning with its package."""
    return file.rpartition("site-packages/")[2].removeprefix("/")


def package_of(file: str) -> str:
    parts = file.split("/")
    return "/".join(parts[:2]) if parts[0] in {"django", "healthcare"} and len(parts) > 2 else parts[0]
