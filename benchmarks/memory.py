"""The resident memory of the server's processes: idle, and after a million requests of all kinds."""

import argparse
from itertools import cycle
from pathlib import Path

from benchmarks import process_tree, report
from benchmarks.data import FEW_OTHERS
from benchmarks.equal_answers import UnequalError
from benchmarks.load import Contender, send_load, warm_up
from benchmarks.operations import plain_requests
from benchmarks.servers import SEARCHES
from benchmarks.terminal import print_line
from benchmarks.testbed import start_testbed

MIB = 2**20
LARGEST_IDLE = 120  # MiB of a process
LARGEST_GROWTH = 1.05  # times the memory after the first tenth of the requests
SLICE = 10  # seconds


def run(options: argparse.Namespace, folder: Path) -> str:
    """The report. Raises UnequalError when a process holds too much memory, or ever more."""
    with start_testbed(folder, ["ours"], FEW_OTHERS) as testbed:
        server, caller = testbed.servers[0], testbed.caller
        requests = {
            name: one for name, one in plain_requests(caller, "cursor").items() if name not in {"login", *SEARCHES}
        }
        contenders = [Contender(name, server, request, caller) for name, request in requests.items()]
        for contender in contenders:
            warm_up(contender)
        idle = process_tree.resident_bytes(server.process)
        print_line(f"Idle after a request of each kind: {in_mib(idle)}")
        answered, early = 0, idle
        for contender in cycle(contenders):
            if answered >= options.requests:
                break
            answered += int(send_load(contender, SLICE)["requests"])
            now = process_tree.resident_bytes(server.process)
            early = now if answered <= options.requests / 10 else early
            print_line(f"{answered:9,} requests, {contender.name}: {in_mib(now)}")
    if max(idle) > LARGEST_IDLE * MIB or max(now) > max(early) * LARGEST_GROWTH:
        raise UnequalError(f"A process holds too much: {in_mib(idle)} idle, {in_mib(now)} after {answered:,} requests.")
    return memory_report(in_mib(idle), in_mib(early), in_mib(now), answered)


def memory_report(idle: str, early: str, now: str, answered: int) -> str:
    return f"""# Memory

{report.describe_machine()}. Resident memory (RSS) of each process:

| idle | after the first tenth | after {answered:,} requests |
|---|---|---|
{report.row(idle, early, now)}

Allowed are {LARGEST_IDLE} MiB idle, and {LARGEST_GROWTH - 1:.0%} more at the end than after the first tenth.
"""


def in_mib(sizes: list[int]) -> str:
    return " + ".join(f"{size / MIB:.0f}" for size in sizes) + " MiB"
