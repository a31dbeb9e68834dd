"""The tables of a comparison, in Markdown."""

import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median

import psutil

from benchmarks.load import Slice
from benchmarks.operations import EVERYDAY_CALLS
from benchmarks.statement_recorder import Sent

Slices = list[Slice]  # one of each round


@dataclass(frozen=True)
class Goal:
    """A ratio of CPU a request: of a slower server at least so many times ours, or ours at most so many times its."""

    ratio: float
    at_most: bool = False

    def is_met(self, found: float) -> bool:
        return found <= self.ratio if self.at_most else found >= self.ratio

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.ratio:g}"


def goals(stock: float, fastapi: float, go: float | None = None) -> dict[str, Goal]:
    found = {"stock": Goal(stock), "fastapi": Goal(fastapi)}
    return found if go is None else found | {"go": Goal(go, at_most=True)}


GOALS = {
    "get one": goals(3.1, 2.1, 3.2),
    "list 20": goals(4.3, 2.1, 2.8),
    "list at depth": goals(12, 12),
    "create": goals(1.85, 1.4, 2.3),
    "patch": goals(2.6, 1.85, 2.5),
    "public doctors": goals(5.5, 3, 2.6),
    "a patient's doctors": goals(4.5, 3, 2),
}
LOGIN_STATEMENTS = 4  # at most
# Of these servers the table gives what ours costs beside them; of all others what they cost beside ours.
CHEAPER = ("fastify", "go", "floor+plan")


@dataclass
class Results:
    """What a comparison measured: of plain calls by operation and server, of everyday calls the plain call's slices and
    their own, and by operation what ours sends to PostgreSQL. `others` is the number of other owners' patients."""

    rounds: int
    seconds: int
    others: int
    plain: dict[str, dict[str, Slices]] = field(default_factory=dict)
    everyday: dict[str, tuple[Slices, Slices]] = field(default_factory=dict)
    sent: dict[str, Sent] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def table_head(left: list[str], right: list[str]) -> str:
    return f"{row(*left, *right)}\n{'|---' * len(left)}{'|--:' * len(right)}|"


def median_of(slices: Iterable[Slice], number: Callable[[Slice], float]) -> float:
    return median([number(one) for one in slices])


def cpu_ratios(above: Slices, below: Slices) -> list[float]:
    """Sorted ratios of CPU a request of each round, because what was measured side by side met the same noise."""
    return sorted(a.cpu / b.cpu for a, b in zip(above, below, strict=True))


def rate_ratios(above: Slices, below: Slices) -> list[float]:
    return sorted(a.rate / b.rate for a, b in zip(above, below, strict=True))


def with_spread(ratios: list[float]) -> str:
    """The median of sorted ratios, with the least and the largest."""
    return f"{median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"


def judged(ratios: list[float], goal: Goal | None) -> str:
    """The ratios beside their goal; bold where it is missed."""
    if goal is None:
        return with_spread(ratios)
    met = goal.is_met(round(median(ratios), 2))
    return f"{with_spread(ratios)} {goal}" if met else f"**{with_spread(ratios)}, not {goal}**"


def ratio_row(operation: str, measured: dict[str, Slices], servers: list[str]) -> str:
    """How the CPU of ours relates to that of each server."""
    ours = next(iter(measured.values()))
    cells = []
    for server in servers:
        theirs = measured.get(server)
        if theirs is None:
            cells.append("–")
            continue
        ratios = cpu_ratios(ours, theirs) if server in CHEAPER else cpu_ratios(theirs, ours)
        cells.append(judged(ratios, GOALS.get(operation, {}).get(server)))
    return row(operation, *cells)


def ratio_table(results: Results) -> str:
    present = list(dict.fromkeys(server for measured in results.plain.values() for server in list(measured)[1:]))
    slower = [name for name in present if name not in (*CHEAPER, "floor", "stock+index")]
    cheaper = [name for name in CHEAPER if name in present]
    heads = [f"{name} costs" for name in slower] + [f"beside {name}" for name in cheaper]
    rows = [ratio_row(operation, measured, slower + cheaper) for operation, measured in results.plain.items()]
    return "\n".join([table_head(["plain call"], heads), *rows])


def everyday_row(operation: str, results: Results) -> str:
    plain, slices = results.everyday[operation]
    call = EVERYDAY_CALLS[operation]
    ratio = judged(cpu_ratios(slices, plain), Goal(call.goal, at_most=True))
    application = f"{median_of(slices, lambda one: one.application):,.0f}"
    postgresql = f"{median_of(slices, lambda one: one.postgresql):,.0f}"
    return row(operation, call.plain, ratio, application, postgresql, *statement_cells(operation, results))


def everyday_table(results: Results) -> str:
    heads = ["CPU to the plain call", "application µs", "PostgreSQL µs", "statements", "round trips"]
    rows = [everyday_row(operation, results) for operation in results.everyday]
    return "\n".join([table_head(["everyday call", "plain call"], heads), *rows])


def statement_cells(operation: str, results: Results) -> list[str]:
    sent = results.sent.get(operation)
    return [str(len(sent.statements)), str(len(sent.messages))] if sent else ["–", "–"]


def statement_table(results: Results) -> str:
    rows = [row(name, *statement_cells(name, results)) for name in results.plain if name in results.sent]
    return "\n".join([table_head(["plain call"], ["statements", "round trips"]), *rows])


ALL_HEADS = ["req/s", "p50 ms", "p99 ms", "application µs", "PostgreSQL µs", "CPU to ours", "req/s to ours"]
REPORT_COLUMNS: list[tuple[Callable[[Slice], float], int]] = [
    (lambda one: one.rate, 0),
    (lambda one: one.p50, 1),
    (lambda one: one.p99, 1),
    (lambda one: one.application, 0),
    (lambda one: one.postgresql, 0),
]


def plain_rows(operation: str, measured: dict[str, Slices]) -> str:
    """One row for each server."""
    ours = next(iter(measured.values()))
    rows = []
    for server, slices in measured.items():
        numbers = [f"{median_of(slices, number):,.{digits}f}" for number, digits in REPORT_COLUMNS]
        ratios = [with_spread(cpu_ratios(slices, ours)), with_spread(rate_ratios(slices, ours))]
        rows.append(row(operation, server, *numbers, *(ratios if slices is not ours else ["", ""])))
    return "\n".join(rows)


def all_table(results: Results) -> str:
    rows = [plain_rows(operation, measured) for operation, measured in results.plain.items()]
    return "\n".join([table_head(["operation", "server"], ALL_HEADS), *rows])


def describe_machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {psutil.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}"
    )


def write(results: Results, chart: str) -> str:
    """The whole report; `chart` is the file of its chart."""
    left_out = f"\nNot supported, so left out: {', '.join(results.left_out)}.\n" if results.left_out else ""
    return f"""# Results

{describe_machine()}. The caller has 10,000 patients, another owner {results.others:,}.
CPU is that of application and PostgreSQL together, a request. Figures are medians of {results.rounds} interleaved
rounds of {results.seconds} s. A ratio is taken round by round, with the least and the largest in brackets and its goal
beside it; a missed goal is bold.
{left_out}
![CPU a request beside other servers, and of everyday calls beside their plain call]({chart})

## Plain calls

"stock costs 4" means that a request costs stock 4 times the CPU of ours; "beside go 3" that it costs ours 3 times the
CPU of go.

{ratio_table(results)}

## Everyday calls

Ours alone: how many times the CPU of its plain call a call costs.

{everyday_table(results)}

## Statements of a plain call

Of ours, without those that control the transaction or its settings; login has {LOGIN_STATEMENTS} at most as its goal.

{statement_table(results)}

## All servers

{all_table(results)}
"""
