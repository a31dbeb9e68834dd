"""Rows by the time they were added, of tables without an index on that time: it follows the ids.

A row takes its id from the sequence and its time from a clock while it is inserted, so their orders differ only among
rows that are inserted at the same time, by clocks that differ, or after a clock was set back. A binary search over the
primary key therefore finds where a day begins, with one index probe a step: 24 steps among 10,000,000 rows.

`count_by_interval` is exact while the ids in question span at most EXACT_UP_TO + 1: it reads the times, from SLACK
before the first moment on. Above that it estimates: the ids of an interval times the share of them that has a row that
counts, which it reads in SAMPLES evenly spaced ranges of SAMPLED_IDS. Ids without a row, of transactions that were
rolled back or rows that were removed, are thus left out. A row is counted in the wrong interval if its time and its id
lie on different sides of the moment between two.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Model

from healthcare.admin.counts import EXACT_UP_TO, Count, about

SLACK = datetime.timedelta(hours=1)  # by which the order of the times may differ from that of the ids
SAMPLES, SAMPLED_IDS = 10, 100
RANGE_LIMITS = {"samples": SAMPLES, "ids": SAMPLED_IDS, "most": EXACT_UP_TO + 1}

# For each moment the first id from which on no row is older, and the id after the last one. `probe` is the first row in
# the upper half.
FIRST_IDS = """
WITH RECURSIVE search(moment, low, high) AS (
    SELECT moment, (SELECT min({key}) FROM {table}), (SELECT max({key}) FROM {table}) + 1
    FROM unnest(%(moments)s::timestamptz[]) AS moment
    UNION ALL
    SELECT moment, CASE WHEN probe.time < moment THEN probe.key + 1 ELSE low END,
        CASE WHEN probe.time < moment THEN high ELSE low + (high - low) / 2 END
    FROM search LEFT JOIN LATERAL (
        SELECT {key} AS key, {time} AS time FROM {table}
        WHERE {key} >= low + (high - low) / 2 AND {key} < high ORDER BY {key} LIMIT 1
    ) AS probe ON true
    WHERE low < high
)
SELECT low, (SELECT max({key}) FROM {table}) + 1 FROM search WHERE low >= high ORDER BY moment
"""
# ORDER BY and LIMIT keep the planner from another index that has the key beside other columns, and so is read whole.
COUNT_EXACTLY = """
SELECT width_bucket(time, %(moments)s::timestamptz[]) AS interval, count(*) FROM (
    SELECT {time} AS time, {condition} AS counts FROM {table} WHERE {key} >= %(first)s ORDER BY {key} LIMIT {most}
) AS recent
WHERE counts AND time >= %(start)s GROUP BY 1
"""
# Of each interval [low, high) of ids: how many of its samples' ids have a row that counts, and how many ids they are.
SAMPLE_SHARES = """
SELECT part.number, sum(sample.counted)::bigint, sum(range.upper - range.lower)::bigint
FROM unnest(%(lows)s::bigint[], %(highs)s::bigint[]) WITH ORDINALITY AS part(low, high, number)
CROSS JOIN LATERAL (
    SELECT start AS lower, least(start + {ids}, low + (width * (step + 1) / {samples})::bigint) AS upper
    FROM generate_series(0, {samples} - 1) AS step, LATERAL (SELECT (high - low)::numeric AS width) AS whole,
        LATERAL (SELECT low + (width * step / {samples})::bigint AS start) AS beginning
) AS range
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE counts) AS counted FROM (
        SELECT {condition} AS counts FROM {table}
        WHERE {key} >= range.lower AND {key} < range.upper ORDER BY {key} LIMIT {ids}
    ) AS sampled
) AS sample
GROUP BY part.number
"""


@dataclass(frozen=True)
class TimedRows:
    """The rows of a model that count, by the column with the time at which they were added. `condition` is SQL."""

    model: type[Model]
    time: str
    condition: str = "true"

    def first_id_since(self, moment: datetime.datetime) -> int | None:
        """The id from which on the rows were added at this moment or later; above every id if none was, None if there
        are no rows at all."""
        return next((low for low, _ in self.run(FIRST_IDS, moments=[moment])), None)

    def count_by_interval(self, moments: Sequence[datetime.datetime]) -> list[Count]:
        """How many rows were added between each of these moments, oldest first, and the next one, and since the
        last one."""
        found = self.run(FIRST_IDS, moments=[moments[0] - SLACK, *moments])
        if not found:
            return [Count(0)] * len(moments)
        [(first, end), *others] = found
        lows = [low for low, _ in others]
        if end - first <= EXACT_UP_TO + 1:
            counted = dict(self.run(COUNT_EXACTLY, moments=list(moments), first=first, start=moments[0]))
            return [Count(counted.get(number, 0)) for number in range(1, len(moments) + 1)]
        highs = [*lows[1:], max(end, lows[-1])]
        shares = {number: (counted, read) for number, counted, read in self.run(SAMPLE_SHARES, lows=lows, highs=highs)}
        return [
            self.estimate(high - low, *shares.get(number, (0, 0)))
            for number, (low, high) in enumerate(zip(lows, highs, strict=True), 1)
        ]

    def count_since(self, moment: datetime.datetime) -> Count:
        [count] = self.count_by_interval([moment])
        return count

    def estimate(self, width: int, counted: int, read: int) -> Count:
        """The rows among so many ids, of which `read` ids hold `counted` rows."""
        return Count(counted) if read >= width else about(width * counted / read)

    def run(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        quote = connection.ops.quote_name
        names = {"table": self.model._meta.db_table, "key": str(self.model._meta.pk.column), "time": self.time}
        quoted = {name: quote(value) for name, value in names.items()}
        with connection.cursor() as cursor:
            cursor.execute(sql.format(**quoted, condition=self.condition, **RANGE_LIMITS), parameters)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows
