"""The tables, in Markdown."""

import platform
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from statistics import median

import psutil

from benchmarks.load import Slice
from benchmarks.reach import FLOOR, WANTED

Measured = dict[str, list[Slice]]  # by server, one of each round; ours first
Results = dict[str, Measured]  # by operation


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


NAMES = ["req/s", "p50 ms", "p99 ms", "application µs", "PostgreSQL µs", "CPU to ours", "req/s to ours"]
HEAD = f"{row('operation', 'server', *NAMES)}\n|---|---{'|--:' * len(NAMES)}|"
REACHED_HEAD = f"{row('operation', 'against', 'CPU', 'req/s', 'wanted', 'reached')}\n|---|---|--:|--:|--:|---|"


def mid(slices: Iterable[Slice], number: Callable[[Slice], float]) -> float:
    return median([number(one) for one in slices])


def ratios(above: list[float], below: list[float]) -> list[float]:
    """Round by round, since what was measured side by side met the same noise."""
    return sorted(a / b for a, b in zip(above, below, strict=True))


def spread(found: list[float]) -> str:
    """The median of the ratios, and the least and the largest."""
    return f"{median(found):.2f} ({found[0]:.2f}–{found[-1]:.2f})"


def cpu(slices: list[Slice]) -> list[float]:
    return [one.cpu for one in slices]


def rates(slices: list[Slice]) -> list[float]:
    return [one.rate for one in slices]


def lines(operation: str, measured: Measured) -> str:
    """One row for each server."""
    ours = next(iter(measured.values()))
    rows = []
    for server, slices in measured.items():
        numbers = [f"{mid(slices, number):,.{digits}f}" for number, digits in COLUMNS]
        compared = [spread(ratios(cpu(slices), cpu(ours))), spread(ratios(rates(slices), rates(ours)))]
        rows.append(row(operation, server, *numbers, *(compared if slices is not ours else ["", ""])))
    return "\n".join(rows)


COLUMNS: list[tuple[Callable[[Slice], float], int]] = [
    (lambda one: one.rate, 0),
    (lambda one: one.p50, 1),
    (lambda one: one.p99, 1),
    (lambda one: one.application, 0),
    (lambda one: one.postgresql, 0),
]


def reached(results: Results) -> str:
    """What was wanted and what came of it, judged by CPU."""
    rows = []
    for operation, measured in results.items():
        ours = next(iter(measured.values()))
        for server, least in WANTED.get(operation, {}).items():
            if server not in measured:
                continue
            theirs = measured[server]
            if server == FLOOR:
                found, wanted = ratios(cpu(ours), cpu(theirs)), f"≤ {least:g}"
                good, faster = median(found) <= least, ratios(rates(theirs), rates(ours))
            else:
                found, wanted = ratios(cpu(theirs), cpu(ours)), f"≥ {least:g}"
                good, faster = median(found) >= least, ratios(rates(ours), rates(theirs))
            rows.append(row(operation, server, spread(found), spread(faster), wanted, "yes" if good else "no"))
    return "\n".join([REACHED_HEAD, *rows])


def machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {psutil.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}"
    )


def write(results: Results, rounds: int, seconds: int, notes: list[str]) -> str:
    said = "".join(f"\n{note}\n" for note in notes)
    return f"""# Results

{machine()}. Medians of {rounds} interleaved rounds of {seconds} s; ratios are taken
round by round, with their least and largest.
{said}
## Reach

CPU: how many times more a request costs there than here; for the floor, here than there. req/s the same way round.

{reached(results)}

## All

{chr(10).join([HEAD, *(lines(operation, measured) for operation, measured in results.items())])}
"""
