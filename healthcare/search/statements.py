"""The statement that looks terms up. It holds only what the question needs: more to plan costs more."""

from dataclasses import dataclass, replace
from typing import Any

from healthcare.api.cursors import Cursor
from healthcare.model_fields import LARGEST_ID

# The terms to look up. Of several words two make the term, and its rank is that of the worse one.
READINGS = """
WITH near AS MATERIALIZED (SELECT * FROM unnest(%s::int[], %s::int[], %s::text[]) AS likeness(place, rank, term)),
reading AS MATERIALIZED (
    SELECT rank, term, false AS named FROM near WHERE place = 0
    UNION ALL {names}
)
"""
ONE_WORD = "SELECT rank, term, true FROM near WHERE place = 1"
TWO_WORDS = """
SELECT greatest(a.rank, b.rank), least(a.term, b.term) || ' ' || greatest(a.term, b.term), true
FROM near a JOIN near b ON b.place = 2 AND b.term <> a.term WHERE a.place = 1
"""
MATCH = """
SELECT found.record FROM {terms} found
WHERE found.owner = {owner} AND found.hidden = {hidden} AND found.term = reading.term {bound} {others} {not_better}
AND EXISTS (SELECT FROM ({allowed}) AS allowed(id) WHERE allowed.id = found.record OFFSET 0)
"""
# That a record has one of these terms too. OFFSET 0 and IS TRUE keep the planner from joining: it is asked of one
# record at a time, and the terms are hashed once.
HAS = """EXISTS (SELECT FROM {terms} has WHERE has.record = found.record
    AND (has.term IN (SELECT term FROM {among})) IS TRUE OFFSET 0)"""
# The records of one rank, unless those before it fill the page. No term gives more rows than a page has.
STAGE = """
rank{rank} AS MATERIALIZED (
    SELECT DISTINCT hit.record FROM reading, LATERAL ({match} {beyond} ORDER BY 1 {direction} LIMIT {limit}) hit
    WHERE {of_rank} ORDER BY 1 {direction} LIMIT {limit}
)
"""
# Of many terms most cannot reach the page: where as many terms as it has rows begin, the others need not be read on.
EDGE = """
edge{rank} AS MATERIALIZED (
    SELECT CASE count(*) WHEN {limit} THEN {furthest}(record) ELSE {end} END AS record FROM (
        SELECT DISTINCT hit.record FROM reading, LATERAL ({match} ORDER BY 1 {direction} LIMIT 1) hit
        WHERE {of_rank} ORDER BY 1 {direction} LIMIT {limit}
    ) AS nearest
),
"""


@dataclass(frozen=True)
class Page:
    """At most `limit` records (None for all) from the cursor on, and whether backwards."""

    cursor: Cursor | None
    limit: int | None

    @property
    def back(self) -> bool:
        return self.cursor is not None and self.cursor.back

    def reaches(self, rank: int) -> bool:
        if self.cursor is None:
            return True
        return bool(rank <= self.cursor.values[0] if self.back else rank >= self.cursor.values[0])

    def after(self, rows: int) -> "Page":
        return self if self.limit is None else replace(self, limit=self.limit - rows)

    def bound(self, rank: int) -> str:
        if self.cursor is None or rank != self.cursor.values[0]:
            return ""
        return f"AND found.record {'>' if self.back else '<'} {int(self.cursor.values[1])}"


class Near:
    """What is asked, as terms: rows of the place in the text, the rank, the term, and how many words there are."""

    def __init__(self, rows: list[tuple[int, int, str, int]]) -> None:
        self.arrays = [[row[column] for row in rows] for column in range(3)]
        self.words = max((row[3] for row in rows if row[0]), default=0)
        places = {row[0] for row in rows if row[0]}
        best = [min(rank for at, rank, _, _ in rows if at == place) for place in places]
        least = max(best, default=0)  # no record is better than its worst word
        self.ranks = {rank for place, rank, _, _ in rows if not place or rank >= least}


@dataclass(frozen=True)
class Statement:
    terms: str
    owner: int
    hidden: bool
    near: Near
    page: Page
    allowed: str
    parameters: tuple[Any, ...]

    def over(self, ranks: list[int]) -> tuple[str, list[Any]]:
        """The SQL and its parameters: the rank and id of the records, in the order of the page."""
        readings = READINGS.format(names=ONE_WORD if self.near.words < 2 else TWO_WORDS)
        stages = ", ".join(self.stage(rank, ranks[:place]) for place, rank in enumerate(ranks))
        rows = " UNION ALL ".join(f"SELECT {rank}, record FROM rank{rank}" for rank in ranks)  # noqa: S608  (numbers)
        ways = ("DESC", "ASC") if self.page.back else ("ASC", "DESC")
        statement = f"{readings}, {stages} {rows} ORDER BY 1 {ways[0]}, 2 {ways[1]} LIMIT {self.limit}"
        return statement, [*self.near.arrays, *self.parameters * statement.count(self.allowed)]

    @property
    def limit(self) -> str:
        return "ALL" if self.page.limit is None else str(int(self.page.limit))

    def stage(self, rank: int, before: list[int]) -> str:
        filled = " + ".join(f"(SELECT count(*) FROM rank{other})" for other in before)  # noqa: S608
        fields = {
            "rank": rank,
            "limit": self.limit,
            "direction": "ASC" if self.page.back else "DESC",
            "furthest": "max" if self.page.back else "min",
            "end": LARGEST_ID if self.page.back else 0,
            "match": self.match(rank),
            "of_rank": self.of_rank(rank) + (f" AND {filled} < {self.limit}" if filled and self.page.limit else ""),
        }
        if rank == 0 or self.page.limit is None:  # a few terms, or all rows
            return STAGE.format(beyond="", **fields)
        beyond = f"AND found.record {'<=' if self.page.back else '>='} (SELECT record FROM edge{rank})"  # noqa: S608
        return EDGE.format(**fields) + STAGE.format(beyond=beyond, **fields)

    def of_rank(self, rank: int) -> str:
        if self.near.words < 3:
            return f"reading.rank = {rank}"
        return f"(reading.rank = {rank} OR (reading.rank < {rank} AND reading.named))"  # another word may be worse

    def match(self, rank: int) -> str:
        others = self.others(rank)
        if self.near.words < 3:
            better = [self.has(f"reading WHERE rank < {rank}")]
        else:
            better = [self.has(f"reading WHERE rank < {rank} AND NOT named")]
            better.append(self.has(f"reading WHERE rank < {rank} AND named") + self.others(rank - 1))
        return MATCH.format(
            terms=self.terms,
            owner=int(self.owner),
            hidden="true" if self.hidden else "false",
            bound=self.page.bound(rank),
            others=f"AND (NOT reading.named OR (true {others}))" if others else "",
            not_better=" ".join(f"AND NOT ({one})" for one in better) if rank else "",
            allowed=self.allowed,
        )

    def others(self, rank: int) -> str:
        """That a record has the third word and those after it, none worse than this rank."""
        others = range(3, self.near.words + 1)
        return "".join(f" AND {self.has(f'near WHERE place = {place} AND rank <= {rank}')}" for place in others)

    def has(self, among: str) -> str:
        return HAS.format(terms=self.terms, among=among)
