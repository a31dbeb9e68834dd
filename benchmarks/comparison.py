"""Every server in turn, operation by operation: A B C, A B C. What is compared is what was measured side by side."""

import argparse
from pathlib import Path

from benchmarks import answers, load, report
from benchmarks.operations import SEARCHES, requests
from benchmarks.progress import say, show
from benchmarks.stage import Stage, set_up
from benchmarks.targets import CANNOT_SEARCH

WARM_UP = 1  # seconds


def run(options: argparse.Namespace, folder: Path) -> str:
    results: report.Results = {}
    notes: list[str] = []
    with set_up(folder, options.servers) as stage:
        operations = [*requests(stage.callers["caller"], "cursor")]
        wanted = [name for name in operations if not options.operations or name in options.operations]
        for number, operation in enumerate(wanted, 1):
            show(f"{number} of {len(wanted)}: {operation}")
            measured = measure(stage, operation, options.rounds, options.seconds)
            if measured:
                results[operation] = measured
                show("")
                say(report.lines(operation, measured))
            else:
                notes.append(f"{operation.capitalize()}: {stage.servers[0].name} cannot do it yet, so it was left out.")
    return report.write(results, options.rounds, options.seconds, notes)


def measure(stage: Stage, operation: str, rounds: int, seconds: int) -> report.Measured:
    """The slices of every server; empty when the first one cannot do it."""
    caller = stage.callers["caller"]
    servers = [one for one in stage.servers if operation not in SEARCHES or one.name not in CANNOT_SEARCH]
    if not answers.is_offered(operation, servers[0], caller):
        return {}
    answers.check(operation, servers, caller)
    asked = {server.name: requests(caller, server.target.paging)[operation] for server in servers}
    for server in servers:
        load.wrk(server.url, asked[server.name], caller, WARM_UP)
    measured: report.Measured = {server.name: [] for server in servers}
    for turn in range(1, rounds + 1):
        for server in servers:
            show(f"{operation}, round {turn} of {rounds}: {server.name}")
            measured[server.name].append(load.run(server, asked[server.name], caller, stage.postgresql, seconds))
    return measured
