"""Every server in turn, operation by operation: A B C, A B C. What is compared is what was measured side by side."""

import argparse
from contextlib import ExitStack
from pathlib import Path

import psutil

from benchmarks import answers, databases, load, report
from benchmarks.data import Caller, log_in
from benchmarks.operations import Request, requests
from benchmarks.progress import say, show
from benchmarks.targets import TARGETS, Running, serving

WARM_UP = 1  # seconds

Results = dict[str, dict[str, list[load.Slice]]]  # by operation and server, one of each round


def run(options: argparse.Namespace, folder: Path, stack: ExitStack) -> str:
    wanted = [target for target in TARGETS if not options.servers or target.name in options.servers]
    databases.prepare()
    databases.use(databases.FILLED)
    caller = log_in("caller")
    say("Copying the databases…")
    urls = {
        name: databases.copy(f"{databases.FILLED}_{name}", plain=name != "product", composite=name == "indexed")
        for name in sorted({target.database for target in wanted})
    }
    databases.use("postgres")
    databases.settle()
    say("Starting " + ", ".join(target.name for target in wanted) + "…")
    servers = [
        stack.enter_context(serving(target, urls[target.database], folder / f"{target.name}.log")) for target in wanted
    ]
    return report.table(measure(options, servers, caller, databases.server()))


def measure(options: argparse.Namespace, servers: list[Running], caller: Caller, database: psutil.Process) -> Results:
    asked = {server.name: requests(caller, server.target.paging) for server in servers}
    results: Results = {}
    operations = [name for name in asked[servers[0].name] if not options.operations or name in options.operations]
    for number, operation in enumerate(operations, 1):
        each = {server.name: asked[server.name][operation] for server in servers}
        answers.check(operation, servers, each, caller)
        for server in servers:
            load.wrk(server.url, each[server.name], caller, WARM_UP)
        measured = results[operation] = {server.name: [] for server in servers}
        for turn in range(1, options.rounds + 1):
            for server in servers:
                show(f"{operation} ({number} of {len(operations)}), round {turn} of {options.rounds}: {server.name}")
                measured[server.name].append(slice_of(server, each[server.name], caller, database, options.seconds))
        show("")
        say(report.lines(operation, measured))
    return results


def slice_of(
    server: Running, request: Request, caller: Caller, database: psutil.Process, seconds: int
) -> load.Slice:
    return load.run(server, request, caller, database, seconds)
