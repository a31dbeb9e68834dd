"""Where the server spends its time, operation by operation: py-spy looks at its workers while they are under load.

It looks only at the thread that holds the interpreter's lock: what waits for PostgreSQL spends nothing here.
"""

import argparse
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from benchmarks import load
from benchmarks.operations import requests
from benchmarks.progress import say
from benchmarks.stage import set_up
from benchmarks.targets import Running

FRAME = re.compile(r"(?P<function>.+) \((?P<file>[^:()]+)(:\d+)?\)")
MOST = 40  # functions shown
COMMON = 0.8  # of the samples: what every request goes through says nothing
RATE = 500  # looks a second


def run(options: argparse.Namespace, folder: Path) -> str:
    """A report in Markdown; the stacks themselves stay in the folder, for a flame graph."""
    parts = []
    with set_up(folder, options.servers or ["ours"]) as stage:
        caller = stage.callers["caller"]
        for server in stage.servers:
            for operation, request in requests(caller, server.target.paging).items():
                if operation in options.operations:
                    say(f"Looking at {server.name}: {operation}…")
                    load.wrk(server.url, request, caller, 1)
                    stacks = folder / f"{server.name}-{operation.replace(' ', '-')}.stacks"
                    looking = look(server, stacks, options.seconds)
                    load.run(server, request, caller, stage.postgresql, options.seconds + 1)
                    if looking.wait(60):
                        raise RuntimeError("py-spy could not look into the server; it needs the right to trace it.")
                    parts.append(f"## {server.name}: {operation}\n\n{summary(stacks)}\n")
    return "\n".join(parts)


def look(server: Running, stacks: Path, seconds: int) -> "subprocess.Popen[bytes]":
    program = Path(sys.executable).with_name("py-spy")
    command = [str(program), "record", "--pid", str(server.process.pid), "--subprocesses", "--format", "raw"]
    command += ["--rate", str(RATE), "--duration", str(seconds), "--gil", "--nonblocking", "--output", str(stacks)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def summary(stacks: Path) -> str:
    """Shares of the samples: by package what ran there itself, by function what ran in it and below it."""
    packages: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    total = 0
    for line in stacks.read_text(encoding="utf-8").splitlines():
        stack, _, count = line.rpartition(" ")
        found = filter(None, map(FRAME.fullmatch, stack.split(";")))
        frames = [(frame["function"], short(frame["file"])) for frame in found]
        if not frames:
            continue
        total += int(count)
        packages[package_of(frames[-1][1])] += int(count)
        functions.update(dict.fromkeys({f"{function} ({file})" for function, file in frames}, int(count)))
    own = ", ".join(f"{name} {count / total:.0%}" for name, count in packages.most_common(12))
    telling = [(name, count / total) for name, count in functions.most_common() if count < COMMON * total][:MOST]
    rows = "\n".join(f"{share:6.1%}  {name}" for name, share in telling)
    return f"By package: {own}.\n\n```\n{rows}\n```"


def short(file: str) -> str:
    """The file from its package on."""
    return file.rpartition("site-packages/")[2].removeprefix("/")


def package_of(file: str) -> str:
    parts = file.split("/")
    return "/".join(parts[:2]) if parts[0] in {"django", "healthcare"} and len(parts) > 2 else parts[0]
