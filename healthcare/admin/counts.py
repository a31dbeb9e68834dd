"""How many rows a query has, in a time that does not grow with the table: exact up to EXACT_UP_TO, above it the
planner's estimate.

The estimate is that of EXPLAIN: the rows of the table at its last VACUUM or ANALYZE, scaled to its present size, times
the share that the column statistics give the conditions. So deleted rows are left out as of the last ANALYZE, which
autovacuum runs once a tenth of the rows have changed. A table that was never analyzed has no column statistics, and its
estimate can be far too low. Where the estimate is below what was counted, the answer is "more than 10,000".
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

EXACT_UP_TO = 10_000  # rows


@dataclass(frozen=True)
class Count:
    """A number of rows, and the word that says how exact it is: none, "about" or "more than"."""

    number: int
    precision: str = ""

    def __str__(self) -> str:
        return f"{self.precision} {self.number:,}".strip()

    @property
    def is_exact(self) -> bool:
        return not self.precision


def about(number: float) -> Count:
    """An estimate, rounded to two significant digits: it differs by at most a twentieth."""
    whole = max(round(number), 0)
    return Count(round(whole, min(0, 2 - len(str(whole)))), "about")


def total(counts: Iterable[Count]) -> Count:
    parts = list(counts)
    number = sum(part.number for part in parts)
    return Count(number) if all(part.is_exact for part in parts) else about(number)


def count_rows(rows: QuerySet[Any, Any]) -> Count:
    """The number of these rows. Order them by the columns of an index that has these rows alone or first: PostgreSQL
    then reads at most EXACT_UP_TO + 1 of its entries, whatever else the table holds."""
    return complete_count(rows[: EXACT_UP_TO + 1].count(), rows)


def complete_count(counted: int, rows: QuerySet[Any, Any]) -> Count:
    """The number of these rows, of which so many were counted, at most EXACT_UP_TO + 1."""
    if counted <= EXACT_UP_TO:
        return Count(counted)
    estimate = estimate_rows(rows)
    return about(estimate) if estimate > EXACT_UP_TO else Count(EXACT_UP_TO, "more than")


def estimate_rows(rows: QuerySet[Any, Any]) -> int:
    """The planner's estimate of the number of these rows. Nothing is read but statistics."""
    [explained] = json.loads(rows.order_by().explain(format="json"))
    return int(explained["Plan"]["Plan Rows"])
