"""The same requests by an owner of 10,000 patients and by one of 1,000,000: does the cost grow with the rows?"""

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks import equal_answers, report
from benchmarks.data import OTHERS, OWN, PAGE, Caller
from benchmarks.load import Contender, measure_interleaved
from benchmarks.operations import EVERYDAY_CALLS, PLAIN_NAMES, BenchmarkRequest, plain_requests
from benchmarks.terminal import print_line, show_status
from benchmarks.testbed import Testbed, start_testbed

OWNERS = ("caller", "large")
LARGEST_RATIO = 1.3
NOT_OF_OWNER = ("create", "patch", "login", "public doctors")  # their cost does not depend on the owner
GROWING = [*(name for name in PLAIN_NAMES if name not in NOT_OF_OWNER), "history"]


def owner_requests(caller: Caller) -> dict[str, BenchmarkRequest]:
    """By operation. A search finds two rows for either owner, because the large one has more of each name."""
    requests = {name: one for name, one in plain_requests(caller, "cursor").items() if name in GROWING}
    hit = requests["search hit"]
    requests["search hit"] = replace(hit, path=hit.path.replace(f"limit={PAGE}", "limit=2"))
    return requests | {"history": EVERYDAY_CALLS["history"].request}


def run(options: argparse.Namespace, folder: Path) -> str:
    """The report."""
    names = [f"{number:,}" for number in (OWN, OTHERS)]
    heads = [f"{name}: {what}" for name in names for what in ("CPU µs", "p50 ms", "p99 ms")]
    lines = [report.row("operation", *heads, "CPU", f"≤ {LARGEST_RATIO}"), f"|---{'|--:' * (len(heads) + 1)}|---|"]
    with start_testbed(folder, ["ours"], OTHERS, OWNERS) as testbed:
        for operation in GROWING:
            if options.operations and operation not in options.operations:
                continue
            if equal_answers.supports(operation, testbed.servers[0], testbed.caller):
                show_status(operation)
                lines.append(growth_row(operation, measure_owners(testbed, operation, options)))
                print_line(lines[-1])
            else:
                lines.append(report.row(operation, *["not supported"] * (len(heads) + 2)))
    return f"""# Growth

{report.describe_machine()}. Medians of {options.rounds} rounds of {options.seconds} s.
CPU: how many times more a request of the owner of {OTHERS:,} patients costs, with the least and the largest ratio. A
search finds two rows for either owner, because the large one has more of each name.

{chr(10).join(lines)}
"""


def measure_owners(testbed: Testbed, operation: str, options: argparse.Namespace) -> list[report.Slices]:
    """The slices of either owner."""
    contenders = [
        Contender(name, testbed.servers[0], owner_requests(testbed.callers[name])[operation], testbed.callers[name])
        for name in OWNERS
    ]
    return list(measure_interleaved(contenders, testbed.postgresql, options.rounds, options.seconds).values())


def growth_row(operation: str, measured: list[report.Slices]) -> str:
    cells = []
    for slices in measured:
        cells.append(f"{report.median_of(slices, lambda one: one.cpu):,.0f}")
        cells.append(f"{report.median_of(slices, lambda one: one.p50):.1f}")
        cells.append(f"{report.median_of(slices, lambda one: one.p99):.1f}")
    small, large = measured
    ratios = report.cpu_ratios(large, small)
    return report.row(
        operation,
        *cells,
        report.with_spread(ratios),
        "yes" if report.Goal(LARGEST_RATIO, at_most=True).is_met(median(ratios)) else "no",
    )
