"""The search of staff: across the records of all owners, or within those of one, and among deleted records too.

The terms begin with their owner. A search across all owners therefore looks a term up once for each owner whose
vocabulary has its words: an index on the vocabulary finds those owners. Its cost grows with the number of owners who
have such words, not with their records.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Model, QuerySet
from django.utils.functional import cached_property

from healthcare.api.cursors import Cursor
from healthcare.model_fields import LARGEST_ID
from healthcare.search.hits import Hits
from healthcare.search.index import Index
from healthcare.search.staff_vocabulary import all_owners
from healthcare.search.statements import PageOfHits, QueryTerms, SearchStatement

# The terms to look up, each for the owners who have its words, and among the active records, the deleted ones or both.
# Terms that are no words, such as a phone number, are looked up for every owner. Those of better ranks are without an
# owner: what has them was found before.
STAFF_READINGS = """
WITH near AS MATERIALIZED (SELECT * FROM unnest(%s::int[], %s::int[], %s::text[]) AS likeness(place, rank, term)),
owners AS MATERIALIZED ({owners}),
known AS MATERIALIZED ({known}),
reading AS MATERIALIZED (
    SELECT owner, hidden, rank, term, covers FROM (
        SELECT owner, rank, term, 0 AS covers FROM near, owners WHERE place = 0 AND rank = {worst}
        UNION ALL SELECT NULL, rank, term, 0 FROM near WHERE place = 0 AND rank < {worst}
        UNION ALL {names}
    ) AS of_owner, unnest(%s::boolean[]) AS hidden
)
"""
KNOWN_OF_ONE = "SELECT owner, near.* FROM owners, near WHERE place > 0"
KNOWN_OF_ALL = """
SELECT DISTINCT word.owner, near.* FROM near JOIN {words} word ON word.word = near.term WHERE near.place > 0
"""
STAFF_ONE_WORD = "SELECT owner, rank, term, 1 FROM known WHERE place = 1"
# By the words of each owner: a join of `known` with itself would be planned as a nested loop over all pairs of owners.
STAFF_TWO_WORDS = """
SELECT owner, greatest(a.rank, b.rank), least(a.term, b.term) || ' ' || greatest(a.term, b.term), 2
FROM (
    SELECT owner,
        array_agg(term) FILTER (WHERE place = 1) AS firsts, array_agg(rank) FILTER (WHERE place = 1) AS ranks1,
        array_agg(term) FILTER (WHERE place = 2) AS seconds, array_agg(rank) FILTER (WHERE place = 2) AS ranks2
    FROM known GROUP BY owner
) AS of_owner, unnest(firsts, ranks1) AS a(term, rank), unnest(seconds, ranks2) AS b(term, rank)
WHERE b.term <> a.term
"""
STAFF_LONG_NAMES = """
UNION ALL SELECT with_long_names.owner, rank, term, 1 FROM near, (
    SELECT owners.owner FROM owners WHERE EXISTS (
        SELECT FROM {terms} long WHERE long.owner = owners.owner AND long.hidden IN (true, false)
        AND long.term > 'long:' AND long.term < 'long;'
    ) OFFSET 0
) AS with_long_names WHERE place = -1
"""
# The newest record of each term. As many terms as the page has rows each have one up to the edge, so the page lies on
# the terms with a record up to it.
STAFF_STAGE = """
newest{rank} AS MATERIALIZED (
    SELECT reading.*, hit.record FROM reading, LATERAL ({match} ORDER BY 1 {direction} LIMIT 1) hit WHERE {of_rank}
),
edge{rank} AS MATERIALIZED (
    SELECT CASE count(*) WHEN {limit} THEN {furthest}(record) ELSE {end} END AS record
    FROM (SELECT DISTINCT record FROM newest{rank} ORDER BY 1 {direction} LIMIT {limit}) AS nearest
),
rank{rank} AS MATERIALIZED (
    SELECT DISTINCT hit.record FROM newest{rank} AS reading, LATERAL (
        {match} AND found.record {reaches} (SELECT record FROM edge{rank}) ORDER BY 1 {direction} LIMIT {limit}
    ) hit
    WHERE reading.record {reaches} (SELECT record FROM edge{rank}) ORDER BY 1 {direction} LIMIT {limit}
)
"""


class StaffHits(Hits):
    """The records of a queryset that match a text. `owner` is the owner's id, or None for all owners, and without a
    meaning where the index has none; `hidden` has False for the active records, True for the deleted ones, or both."""

    def __init__(
        self, queryset: QuerySet, index: Index, text: str, *, owner: int | None, hidden: Sequence[bool] = (False,)
    ) -> None:
        super().__init__(queryset, index, text, owner=(owner or 0) if index.owner else 0, hidden=True in hidden)
        self.one_owner = None if index.owner and owner is None else self.owner
        self.kinds = [*hidden]

    def stages(self, ranks: list[int]) -> list[list[int]]:
        return [[rank] for rank in ranks]

    @cached_property
    def query_terms(self) -> QueryTerms:
        function, parameters = f"{self.index.words}_near", [self.text]
        if self.index.owner:
            function += "_all" if self.one_owner is None else "_of"
            parameters += [] if self.one_owner is None else [self.one_owner]  # type: ignore[list-item]
        places = ", ".join(["%s"] * len(parameters))
        return QueryTerms(self.query(f"SELECT place, rank, term, words FROM {function}({places})", parameters))  # noqa: S608

    def statement(self, page: PageOfHits, allowed: str, parameters: Any) -> "StaffStatement":
        return StaffStatement(
            self.index.terms, self.owner, self.hidden, self.query_terms, page, allowed, parameters,
            index=self.index, one_owner=self.one_owner, kinds=self.kinds,
        )  # fmt: skip


class NarrowedHits(StaffHits):
    """Those of the MOST_NARROWED best matches among `candidates` that are in the queryset. A search for a frequent name
    among few records would otherwise look at everybody of that name."""

    MOST_NARROWED = 1000

    def __init__(self, queryset: QuerySet, candidates: QuerySet, index: Index, text: str, **options: Any) -> None:
        super().__init__(candidates, index, text, **options)
        self.narrowed = queryset

    def fetch(self, cursor: Cursor | None, limit: int) -> list[Model]:
        ranks = self.look_up(PageOfHits(None, self.MOST_NARROWED))
        rows = {row.pk: row for row in self.narrowed.filter(pk__in=ranks)}
        found = [key for key in ranks if key in rows]  # best first
        back = cursor is not None and cursor.back
        if cursor:
            rank, last = cursor.values
            found = [key for key in found if ((ranks[key], -key) < (rank, -last)) == back and key != last]
        page = (found[::-1] if back else found)[:limit]
        for key in page:
            rows[key].search_rank = ranks[key]
        return [rows[key] for key in page]


@dataclass(frozen=True, kw_only=True)
class StaffStatement(SearchStatement):
    index: Index
    one_owner: int | None
    kinds: list[bool]

    def readings(self, worst: int) -> tuple[str, list[Any]]:
        names = STAFF_ONE_WORD if self.query_terms.words < 2 else STAFF_TWO_WORDS
        everyone = self.one_owner is None
        sql = STAFF_READINGS.format(
            worst=worst,
            owners=all_owners(self.index) if everyone else f"SELECT {int(self.one_owner or 0)}::bigint AS owner",
            known=KNOWN_OF_ALL.format(words=self.index.words) if everyone else KNOWN_OF_ONE,
            names=names + STAFF_LONG_NAMES.format(terms=self.terms) * self.query_terms.long_names,
        )
        return sql, [*self.query_terms.up_to(worst), self.kinds]

    @property
    def found(self) -> str:
        return "found.owner = reading.owner AND found.hidden = reading.hidden"

    def stage(self, rank: int, before: list[int]) -> str:
        back = self.page.back
        return STAFF_STAGE.format(
            rank=rank,
            limit=self.limit,
            direction="ASC" if back else "DESC",
            furthest="max" if back else "min",
            reaches="<=" if back else ">=",
            end=LARGEST_ID if back else 0,
            match=self.match(rank),
            of_rank=self.of_rank(rank),
        )
