"""The table."""

from statistics import median

from benchmarks.load import Slice


def lines(operation: str, measured: dict[str, list[Slice]]) -> str:
    """One row for each server; the ratios are to the first one, round by round, with their spread."""
    rows = []
    ours = next(iter(measured.values()))
    for name, slices in measured.items():
        rate, cpu = ratios([s.rate for s in ours], [s.rate for s in slices]), ratios(
            [s.cpu for s in slices], [s.cpu for s in ours]
        )
        rows.append(
            f"| {operation} | {name} | {mid(s.rate for s in slices):,.0f} | {mid(s.p50 for s in slices):.1f} "
            f"| {mid(s.p99 for s in slices):.1f} | {mid(s.application for s in slices):,.0f} "
            f"| {mid(s.postgresql for s in slices):,.0f} | {rate} | {cpu} |"
        )
    return "\n".join(rows)


def mid(values) -> float:
    return median(list(values))


def ratios(above: list[float], below: list[float]) -> str:
    """The median of the ratios, and the least and the largest."""
    found = sorted(a / b for a, b in zip(above, below, strict=True))
    return f"{median(found):.2f} ({found[0]:.2f}–{found[-1]:.2f})"


HEAD = """| operation | server | req/s | p50 ms | p99 ms | application µs | PostgreSQL µs | ours is faster by | costs more CPU than ours by |
|---|---|--:|--:|--:|--:|--:|--:|--:|"""


def table(results: dict[str, dict[str, list[Slice]]]) -> str:
    return "\n".join([HEAD, *(lines(operation, measured) for operation, measured in results.items())])
