"""The same requests by an owner of 10,000 patients and by one of 1,000,000, in turn: what grows with the rows?"""

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks import answers, load, report
from benchmarks.data import MANY, OWN, PAGE, Caller
from benchmarks.operations import Request, requests
from benchmarks.progress import say, show
from benchmarks.stage import Stage, set_up

OWNERS = ("caller", "large")
MOST = 1.3  # times the cost
LAST_PAGE = "last page"
CHANGES = ("create", "patch", "login", "public doctors")  # these cost the same or are nobody's


def asked(caller: Caller) -> dict[str, Request]:
    """The requests by name. A search answers two rows to either owner: the large one has more of each name."""
    chosen = {name: one for name, one in requests(caller, "cursor").items() if name not in CHANGES}
    renamed = {LAST_PAGE if "cursor=" in one.path else name: one for name, one in chosen.items()}
    hit = renamed["search hit"]
    renamed["search hit"] = replace(hit, path=hit.path.replace(f"limit={PAGE}", "limit=2"))
    return renamed | {"history": Request("GET", "/api/patients/@/history/")}


def run(options: argparse.Namespace, folder: Path) -> str:
    names = [f"{number:,}" for number in (OWN, MANY)]
    heads = [f"{name}: {what}" for name in names for what in ("CPU µs", "p50 ms", "p99 ms")]
    lines = [report.row("operation", *heads, "CPU", f"≤ {MOST}"), f"|---{'|--:' * (len(heads) + 1)}|---|"]
    with set_up(folder, ["ours"], OWNERS) as stage:
        for operation in asked(stage.callers["caller"]):
            if options.operations and operation not in options.operations:
                continue
            if answers.is_offered(operation, stage.servers[0], stage.callers["caller"]):
                lines.append(line(operation, measure(stage, operation, options.rounds, options.seconds)))
            else:
                lines.append(report.row(operation, *["not there yet"] * (len(heads) + 2)))
            show("")
            say(lines[-1])
    return f"""# Growth

{report.machine()}. Medians of {options.rounds} rounds of {options.seconds} s.
CPU: how many times more a request of the owner of {MANY:,} costs; in brackets the least and the largest. A search
answers two rows to either, since the large owner has more of each name.

{chr(10).join(lines)}
"""


def measure(stage: Stage, operation: str, rounds: int, seconds: int) -> list[list[load.Slice]]:
    """The slices of either owner."""
    server = stage.servers[0]
    each = [(stage.callers[name], asked(stage.callers[name])[operation]) for name in OWNERS]
    for caller, request in each:
        load.run(server, request, caller, stage.postgresql, 1)
    measured: list[list[load.Slice]] = [[], []]
    for turn in range(1, rounds + 1):
        for slices, (caller, request) in zip(measured, each, strict=True):
            show(f"{operation}, round {turn} of {rounds}")
            slices.append(load.run(server, request, caller, stage.postgresql, seconds))
    return measured


def line(operation: str, measured: list[list[load.Slice]]) -> str:
    cells = []
    for slices in measured:
        cells += [f"{median(report.cpu(slices)):,.0f}", f"{report.mid(slices, lambda one: one.p50):.1f}"]
        cells.append(f"{report.mid(slices, lambda one: one.p99):.1f}")
    grown = report.ratios(report.cpu(measured[1]), report.cpu(measured[0]))
    return report.row(operation, *cells, report.spread(grown), "yes" if median(grown) <= MOST else "no")
