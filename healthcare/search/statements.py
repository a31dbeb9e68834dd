"""Builds the statement that looks terms up. It has only the parts that the query needs, since planning costs too."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from healthcare.api.cursors import Cursor
from healthcare.model_fields import LARGEST_ID

# The terms to look up. For several words these are pairs of the first two, with the rank of the worse one; in names
# that are too long for pairs, the first word. `covers` is the number of the query's words that a term stands for, or 0
# for the whole text.
READINGS = """
WITH near AS MATERIALIZED (SELECT * FROM unnest(%s::int[], %s::int[], %s::text[]) AS likeness(place, rank, term)),
reading AS MATERIALIZED (
    SELECT rank, term, 0 AS covers FROM near WHERE place = 0
    UNION ALL {names}
)
"""
ONE_WORD = "SELECT rank, term, 1 FROM near WHERE place = 1"
TWO_WORDS = """
SELECT greatest(a.rank, b.rank), least(a.term, b.term) || ' ' || greatest(a.term, b.term), 2
FROM near a JOIN near b ON b.place = 2 AND b.term <> a.term WHERE a.place = 1
"""
LONG_NAMES = " UNION ALL SELECT rank, term, 1 FROM near WHERE place = -1"
MATCH = """
SELECT found.record FROM {terms} found
WHERE {found} AND found.term = reading.term {bound} {others} {not_better}
AND EXISTS (SELECT FROM ({allowed}) AS allowed(id) WHERE allowed.id = found.record OFFSET 0)
"""
# Whether a record has one of these terms too. OFFSET 0 and IS TRUE keep the planner from making it a join: it checks
# one record at a time against terms that are hashed once.
HAS = """EXISTS (SELECT FROM {terms} has WHERE has.record = found.record
    AND (has.term IN (SELECT term FROM {among})) IS TRUE OFFSET 0)"""
# The records of one rank, unless better ranks fill the page. Each term contributes at most one page of rows.
STAGE = """
rank{rank} AS MATERIALIZED (
    SELECT DISTINCT hit.record FROM reading, LATERAL ({match} {beyond} ORDER BY 1 {direction} LIMIT {limit}) hit
    WHERE {of_rank} ORDER BY 1 {direction} LIMIT {limit}
)
"""
# With many terms, most cannot reach the page. As many terms as the page has rows each have a record up to this edge, so
# records beyond it need not be read.
EDGE = """
edge{rank} AS MATERIALIZED (
    SELECT CASE count(*) WHEN {limit} THEN {furthest}(record) ELSE {end} END AS record FROM (
        SELECT DISTINCT hit.record FROM reading, LATERAL ({match} ORDER BY 1 {direction} LIMIT 1) hit
        WHERE {of_rank} ORDER BY 1 {direction} LIMIT {limit}
    ) AS nearest
),
"""


@dataclass(frozen=True)
class PageOfHits:
    """At most `limit` records (None for all) after the cursor, or before it where the cursor goes back."""

    cursor: Cursor | None
    limit: int | None

    @property
    def back(self) -> bool:
        return self.cursor is not None and self.cursor.back

    def reaches(self, rank: int) -> bool:
        if self.cursor is None:
            return True
        return bool(rank <= self.cursor.values[0] if self.back else rank >= self.cursor.values[0])

    def after(self, rows: int) -> "PageOfHits":
        return self if self.limit is None else replace(self, limit=self.limit - rows)

    def bound(self, rank: int) -> str:
        if self.cursor is None or rank != self.cursor.values[0]:
            return ""
        return f"AND found.record {'>' if self.back else '<'} {int(self.cursor.values[1])}"


class QueryTerms:
    """The terms of a query, from rows of `<words>_near`: place in the text, rank, term, number of words."""

    def __init__(self, rows: list[tuple[int, int, str, int]]) -> None:
        self.arrays = [[row[column] for row in rows] for column in range(3)]
        self.words = max((row[3] for row in rows if row[0]), default=0)
        self.long_names = any(row[0] < 0 for row in rows)
        places = {row[0] for row in rows if row[0] > 0}
        best = [min(rank for at, rank, _, _ in rows if at == place) for place in places]
        least = max(best, default=0)  # a record ranks as its worst word
        self.ranks = {rank for place, rank, _, _ in rows if not place or rank >= least}

    def up_to(self, worst: int) -> list[list[Any]]:
        """The arrays of the terms that are at least of this rank."""
        rows = [row for row in self.rows() if row[1] <= worst]
        return [[row[column] for row in rows] for column in range(3)]

    def rows(self) -> Iterator[tuple[int, int, str]]:
        """Each place, rank and term."""
        return zip(*self.arrays, strict=True)

    @property
    def partial(self) -> list[int]:
        """How many words of the query, of more, a term of `reading` may cover."""
        return [1] * self.long_names + [2] * (self.words > 2)


@dataclass(frozen=True)
class SearchStatement:
    terms: str
    owner: int
    hidden: bool
    query_terms: QueryTerms
    page: PageOfHits
    allowed: str
    parameters: tuple[Any, ...]

    def for_ranks(self, ranks: list[int]) -> tuple[str, list[Any]]:
        """The SQL and its parameters. It returns the rank and the id of each record, in the order of the page."""
        readings, parameters = self.readings(max(ranks))
        stages = ", ".join(self.stage(rank, ranks[:place]) for place, rank in enumerate(ranks))
        rows = " UNION ALL ".join(f"SELECT {rank}, record FROM rank{rank}" for rank in ranks)  # noqa: S608  (numbers)
        ways = ("DESC", "ASC") if self.page.back else ("ASC", "DESC")
        statement = f"{readings}, {stages} {rows} ORDER BY 1 {ways[0]}, 2 {ways[1]} LIMIT {self.limit}"
        return statement, [*parameters, *self.parameters * statement.count(self.allowed)]

    def readings(self, worst: int) -> tuple[str, list[Any]]:
        """SQL for the terms to look up, and its parameters."""
        names = ONE_WORD if self.query_terms.words < 2 else TWO_WORDS
        sql = READINGS.format(names=names + LONG_NAMES * self.query_terms.long_names)
        return sql, [*self.query_terms.arrays]

    @property
    def found(self) -> str:
        """The condition that a term of the index belongs to the owner and is of the kind that is looked for."""
        return f"found.owner = {int(self.owner)} AND found.hidden = {'true' if self.hidden else 'false'}"

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
        if rank == 0 or self.page.limit is None:  # few terms, or no limit
            return STAGE.format(beyond="", **fields)
        beyond = f"AND found.record {'<=' if self.page.back else '>='} (SELECT record FROM edge{rank})"  # noqa: S608
        return EDGE.format(**fields) + STAGE.format(beyond=beyond, **fields)

    def of_rank(self, rank: int) -> str:
        if not self.query_terms.partial:
            return f"reading.rank = {rank}"
        # One of the other words may rank worse.
        return f"(reading.rank = {rank} OR (reading.rank < {rank} AND {self.is_partial}))"

    @property
    def is_partial(self) -> str:
        return f"reading.covers IN ({', '.join(map(str, self.query_terms.partial))})"

    def match(self, rank: int) -> str:
        partial = self.query_terms.partial
        others = "".join(f" AND (reading.covers <> {covers} OR ({self.others(covers, rank)}))" for covers in partial)
        better = [self.has(f"reading WHERE rank < {rank}" + (f" AND NOT {self.is_partial}" if partial else ""))]
        better += [
            f"{self.has(f'reading WHERE rank < {rank} AND covers = {covers}')} AND {self.others(covers, rank - 1)}"
            for covers in partial
        ]
        return MATCH.format(
            terms=self.terms,
            found=self.found,
            bound=self.page.bound(rank),
            others=others,
            not_better=" ".join(f"AND NOT ({one})" for one in better) if rank else "",
            allowed=self.allowed,
        )

    def others(self, covered: int, rank: int) -> str:
        """The conditions that a record has all words after the covered ones, each with at most this rank."""
        places = range(covered + 1, self.query_terms.words + 1)
        return " AND ".join(self.has(f"near WHERE place = {place} AND rank <= {rank}") for place in places)

    def has(self, among: str) -> str:
        return HAS.format(terms=self.terms, among=among)
