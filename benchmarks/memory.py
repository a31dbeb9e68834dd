"""What the server's processes hold: idle, and after a million requests of all kinds."""

import argparse
from itertools import cycle
from pathlib import Path

from benchmarks import load, processor, report
from benchmarks.answers import UnequalError
from benchmarks.data import FEW
from benchmarks.operations import SEARCHES, requests
from benchmarks.progress import say
from benchmarks.stage import set_up

MIB = 2**20
IDLE = 120  # MiB a process may hold
GROWTH = 1.05  # times what it held after the first tenth
SLICE = 10  # seconds
LEFT_OUT = {"login", *SEARCHES}


def run(options: argparse.Namespace, folder: Path) -> str:
    """Raises UnequalError when a process holds too much or ever more."""
    with set_up(folder, ["ours"], others=FEW) as stage:
        server, caller = stage.servers[0], stage.callers["caller"]
        asked = {name: one for name, one in requests(caller, "cursor").items() if name not in LEFT_OUT}
        for request in asked.values():
            load.wrk(server.url, request, caller, 1)
        idle = processor.memory(server.process)
        say(f"Idle after a first look: {shown(idle)}")
        answered, early = 0, idle
        for name, request in cycle(asked.items()):
            if answered >= options.requests:
                break
            answered += int(load.wrk(server.url, request, caller, SLICE)["requests"])
            now = processor.memory(server.process)
            early = now if answered <= options.requests / 10 else early
            say(f"{answered:9,} requests, {name}: {shown(now)}")
    if max(idle) > IDLE * MIB or max(now) > max(early) * GROWTH:
        raise UnequalError(f"A process holds too much: {shown(idle)} idle, {shown(now)} after {answered:,} requests.")
    return written(shown(idle), shown(early), shown(now), answered)


def written(idle: str, early: str, now: str, answered: int) -> str:
    return f"""# Memory

{report.machine()}. What each process holds (RSS):

| idle | after the first tenth | after {answered:,} requests |
|---|---|---|
{report.row(idle, early, now)}

Allowed are {IDLE} MiB idle, and {GROWTH - 1:.0%} more at the end than after the first tenth.
"""


def shown(sizes: list[int]) -> str:
    return " + ".join(f"{size / MIB:.0f}" for size in sizes) + " MiB"
