"""For continuous integration: names the operation that asks PostgreSQL more often, or costs more, than it used to.

Nothing here is a time: questions to PostgreSQL are counted on their way, and CPU is that of the floor on the same
machine in the same minute times a number. The numbers are those of the last `guard --save`.
"""

import argparse
import json
from pathlib import Path
from statistics import median

from benchmarks import answers, comparison, databases, report
from benchmarks.data import FEW
from benchmarks.operations import SEARCHES, requests
from benchmarks.progress import say, show
from benchmarks.relay import Relay, listening
from benchmarks.stage import Stage, set_up
from benchmarks.targets import TARGETS, Running, serving

LIMITS = Path(__file__).with_name("guard.json")
TOLERANCE = 1.25  # a ratio of CPU may be so many times what it was: neighbours, another machine
TRIES = range(40, 90)  # of the sample: each thread's first one opens a connection, and none may repeat a change
OURS = TARGETS[0]

Found = dict[str, dict[str, float]]  # by operation: "questions" to PostgreSQL, "cpu" in times the floor's


class Regressed(Exception):  # noqa: N818
    """An operation costs more than it used to; the text names it."""


def run(options: argparse.Namespace, folder: Path) -> str:
    """Raises Regressed."""
    with set_up(folder, ["ours", "floor"], others=FEW) as stage, listening() as relay:
        names = [name for name in requests(stage.callers["caller"], "cursor") if name not in SEARCHES]
        wanted = [name for name in names if not options.operations or name in options.operations]
        with serving(OURS, relay.url_of(databases.copied("product", FEW)), folder / "counted.log") as counted:
            said = {name: questions(stage, counted, relay, name) for name in wanted}
        limits: Found = json.loads(LIMITS.read_text(encoding="utf-8")) if LIMITS.exists() else {}
        found: Found = {
            name: {"questions": len(said[name]), "cpu": round(cost(stage, name, options), 2)} for name in wanted
        }
        for name in {} if options.save else regressions(found, limits):
            say(f"{name} once more: a neighbour may have been loud.")
            found[name]["cpu"] = min(found[name]["cpu"], round(cost(stage, name, options), 2))
    if options.save:
        LIMITS.write_text(json.dumps(limits | found, indent=2) + "\n", encoding="utf-8")
        return f"Kept in {LIMITS.name}.\n{table(found, found)}"
    worse = regressions(found, limits)
    print(table(found, limits))
    if worse:
        asked = [f"{name} asks:\n  " + "\n  ".join(shortened(text) for text in said[name]) for name in worse]
        raise Regressed("\n".join([*worse.values(), *asked]))
    return "No operation costs more than it used to.\n"


def questions(stage: Stage, counted: Running, relay: Relay, operation: str) -> list[str]:
    """What one request sends to PostgreSQL, on a connection that is there already."""
    caller = stage.callers["caller"]
    request = requests(caller, OURS.paging)[operation]
    heard = []
    for number in TRIES:
        relay.heard.clear()
        answers.answer(operation, counted, request.filled(caller, number), caller)
        heard.append(list(relay.heard))
    return min(heard, key=len)


def cost(stage: Stage, operation: str, options: argparse.Namespace) -> float:
    measured = comparison.measure(stage, operation, options.rounds, options.seconds)
    show("")
    say(report.lines(operation, measured))
    return median(report.ratios(report.cpu(measured["ours"]), report.cpu(measured["floor"])))


def regressions(found: Found, limits: Found) -> dict[str, str]:
    """By operation a sentence on what became worse. One without limits is not judged."""
    worse = {}
    for name, now in found.items():
        limit = limits.get(name, now)
        if now["questions"] > limit["questions"]:
            worse[name] = (
                f"{name} asks PostgreSQL {now['questions']:.0f} times; it used to be {limit['questions']:.0f}."
            )
        elif now["cpu"] > limit["cpu"] * TOLERANCE:
            worse[name] = f"{name} costs {now['cpu']:.2f} times the floor; it used to be {limit['cpu']:.2f}."
    return worse


def table(found: Found, limits: Found) -> str:
    lines = [
        report.row("operation", "questions", "used to be", "CPU to the floor", "used to be"),
        "|---|--:|--:|--:|--:|",
    ]
    for name, now in found.items():
        before = limits.get(name, now)
        lines.append(
            report.row(
                name,
                f"{now['questions']:.0f}",
                f"{before['questions']:.0f}",
                f"{now['cpu']:.2f}",
                f"{before['cpu']:.2f}",
            )
        )
    return "\n".join(lines) + "\n"


def shortened(statement: str) -> str:
    text = " ".join(statement.split())
    return text if len(text) <= 100 else f"{text[:99]}…"
