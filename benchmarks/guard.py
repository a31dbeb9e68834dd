"""For continuous integration: names the operation that sends more statements, or costs more CPU, than its limit.

No limit is a time. Statements and round trips are counted exactly. CPU is a ratio measured side by side on one machine:
of a plain call to the floor's, of an everyday call to its plain call's. `guard --save` writes new limits.
"""

import argparse
import json
from pathlib import Path
from statistics import median

from benchmarks import comparison, report
from benchmarks.operations import EVERYDAY_CALLS, NAMES, PLAIN_NAMES
from benchmarks.servers import SEARCHES
from benchmarks.statement_recorder import Sent, record_statements
from benchmarks.terminal import print_line
from benchmarks.testbed import Testbed, start_testbed

LIMITS_FILE = Path(__file__).with_name("guard.json")
TOLERANCE = 1.25  # a ratio may be so many times its limit: other load on the machine, another machine
REPEATS = 2  # measurements more of an operation that exceeds its limit; the least counts

Figures = dict[str, dict[str, float]]  # by operation its "statements", "round_trips" and "cpu"


class RegressionError(Exception):
    """An operation exceeds its limit; the text names it."""


def run(options: argparse.Namespace, folder: Path) -> str:
    """The table of all operations. Raises RegressionError."""
    wanted = [name for name in NAMES if name not in SEARCHES]
    wanted = [name for name in wanted if not options.operations or name in options.operations]
    limits: Figures = json.loads(LIMITS_FILE.read_text(encoding="utf-8")) if LIMITS_FILE.exists() else {}
    with start_testbed(folder, ["ours", "floor"], options.patients) as testbed:
        sent = record_statements(testbed, wanted, folder)
        ratios = measure_ratios(testbed, wanted, options)
        figures: Figures = {
            name: {
                "statements": len(sent[name].statements),
                "round_trips": len(sent[name].messages),
                "cpu": round(ratios[name], 2),
            }
            for name in wanted
        }
        for _ in range(0 if options.save else REPEATS):
            suspects = [name for name in find_regressions(figures, limits) if exceeds_cpu(name, figures, limits)]
            if not suspects:
                break
            print_line(f"Measuring again, because other load may have disturbed it: {'; '.join(suspects)}.")
            for name, ratio in measure_ratios(testbed, suspects, options).items():
                figures[name]["cpu"] = min(figures[name]["cpu"], round(ratio, 2))
    if options.save:
        LIMITS_FILE.write_text(json.dumps(limits | figures, indent=2) + "\n", encoding="utf-8")
        return f"Saved in {LIMITS_FILE.name}.\n\n{table(figures, figures)}"
    print(table(figures, limits))
    regressions = find_regressions(figures, limits)
    if regressions:
        raise RegressionError("\n".join([*regressions.values(), *(listed(name, sent[name]) for name in regressions)]))
    return "No operation exceeds its limit.\n"


def measure_ratios(testbed: Testbed, operations: list[str], options: argparse.Namespace) -> dict[str, float]:
    """By operation the median ratio of its CPU to the floor's or, of an everyday call, to that of its plain call."""
    ratios = {}
    for plain in PLAIN_NAMES:
        if plain in operations:
            by_server = comparison.measure_plain(testbed, plain, options.rounds, options.seconds)
            ratios[plain] = median(report.cpu_ratios(by_server["ours"], by_server["floor"]))
            print_line(f"{plain}: {ratios[plain]:.2f} times the floor")
        calls = [name for name in operations if name in EVERYDAY_CALLS and EVERYDAY_CALLS[name].plain == plain]
        if calls:
            by_call = comparison.measure_everyday(testbed, plain, calls, options.rounds, options.seconds)
            for name in calls:
                ratios[name] = median(report.cpu_ratios(by_call[name], by_call[plain]))
                print_line(f"{name}: {ratios[name]:.2f} times its plain call")
    return ratios


def exceeds_cpu(name: str, figures: Figures, limits: Figures) -> bool:
    return name in limits and figures[name]["cpu"] > limits[name]["cpu"] * TOLERANCE


def find_regressions(figures: Figures, limits: Figures) -> dict[str, str]:
    """By operation a sentence on what exceeds its limit. An operation without limits passes."""
    regressions = {}
    for name, found in figures.items():
        limit = limits.get(name, found)
        for unit, phrase in (("statements", "statements"), ("round_trips", "messages")):
            if found[unit] > limit[unit]:
                regressions[name] = (
                    f"{name} sends {found[unit]:.0f} {phrase} to PostgreSQL; its limit is {limit[unit]:.0f}."
                )
        if name not in regressions and exceeds_cpu(name, figures, limits):
            beside = f"{EVERYDAY_CALLS[name].plain!r}" if name in EVERYDAY_CALLS else "the floor"
            regressions[name] = f"{name} costs {found['cpu']:.2f} times the CPU of {beside}; it was {limit['cpu']:.2f}."
    return regressions


def table(figures: Figures, limits: Figures) -> str:
    heads = ["statements", "limit", "round trips", "limit", "CPU", "saved", "beside"]
    lines = [report.table_head(["operation"], heads)]
    for name, found in figures.items():
        limit = limits.get(name, found)
        counts = [f"{one[unit]:.0f}" for unit in ("statements", "round_trips") for one in (found, limit)]
        beside = EVERYDAY_CALLS[name].plain if name in EVERYDAY_CALLS else "the floor"
        lines.append(report.row(name, *counts, f"{found['cpu']:.2f}", f"{limit['cpu']:.2f}", beside))
    return "\n".join(lines) + "\n"


def listed(name: str, sent: Sent) -> str:
    return f"{name} sends:\n  " + "\n  ".join(shortened(message) for message in sent.messages)


def shortened(statement: str) -> str:
    text = " ".join(statement.split())
    return text if len(text) <= 200 else f"{text[:199]}…"
