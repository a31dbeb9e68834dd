"""Looking records up by what they are found by, the best first: exact, then by the beginning, then by similarity."""

from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import Model, QuerySet

from healthcare.api.cursors import LARGEST_ID, Cursor, decode, unknown
from healthcare.search.index import Index

RANKS = (0, 1, 2)

# `near`: what each asked word is like. `reading`: the terms to look up, each with the rank of its worst word; of more
# than two words the two longest make the term, and every record has to have the others (`all_words`) as well.
READINGS = """
WITH near AS MATERIALIZED (SELECT * FROM {words}_near(%s)),
size AS MATERIALIZED (SELECT max(words) AS words FROM near),
reading AS MATERIALIZED (
    SELECT min(rank) AS rank, term, named FROM (
        SELECT rank, term, false AS named FROM near WHERE place = 0
        UNION ALL SELECT rank, term, true FROM near WHERE place = 1 AND words = 1
        UNION ALL SELECT greatest(a.rank, b.rank),
            least(a.term, b.term) || ' ' || greatest(a.term, b.term), true
        FROM near a JOIN near b ON b.place = 2 WHERE a.place = 1 AND a.term <> b.term
    ) every GROUP BY term, named
)
"""
# The records of one rank, unless the better ones fill the page. Each term gives no more rows than a page has.
STAGE = """
rank{rank} AS MATERIALIZED (
    SELECT DISTINCT hit.record FROM reading, LATERAL (
        SELECT found.record FROM {terms} found
        WHERE found.owner = {owner} AND found.hidden = {hidden} AND found.term = reading.term AND {bound}
        AND (NOT reading.named OR {all_words}) {not_better}
        AND EXISTS (SELECT FROM ({filtered}) AS allowed(id) WHERE allowed.id = found.record OFFSET 0)
        ORDER BY found.record {direction} LIMIT {limit}
    ) hit
    WHERE (reading.rank = {rank} OR (reading.rank < {rank} AND reading.named AND (SELECT words FROM size) > 2))
    {unfilled}
    ORDER BY record {direction} LIMIT {limit}
)
"""
ALL_WORDS = """((SELECT words FROM size) <= 2 OR NOT EXISTS (
    SELECT FROM generate_series(3, (SELECT words FROM size)) other WHERE NOT EXISTS (
        SELECT FROM {terms} has WHERE has.record = found.record
        AND has.term IN (SELECT term FROM near WHERE place = other AND rank <= {rank})
    )
))"""
NOT_BETTER = """
AND NOT EXISTS (SELECT FROM {terms} better WHERE better.record = found.record
    AND better.term IN (SELECT term FROM reading WHERE rank < {rank} AND NOT named))
AND NOT (EXISTS (SELECT FROM {terms} better WHERE better.record = found.record
    AND better.term IN (SELECT term FROM reading WHERE rank < {rank} AND named)) AND {all_words})
"""


class Hits:
    """The records of a queryset that a text finds, in pages. A cursor holds the rank and the id of a row."""

    def __init__(self, queryset: QuerySet, index: Index, text: str, *, owner: int, hidden: bool) -> None:
        self.queryset, self.index, self.text, self.owner, self.hidden = queryset, index, text, owner, hidden

    @classmethod
    def of(cls, queryset: QuerySet, view: Any, text: str, *, hidden: bool) -> "Hits":
        index: Index = view.search_index
        return cls(queryset, index, text, owner=view.request.user.pk if index.owner else 0, hidden=hidden)

    def cursor(self, row: Any, *, back: bool) -> Cursor:
        return Cursor((row.search_rank, row.pk), back)

    def read(self, text: str | None) -> Cursor | None:
        """The cursor that a client sends; None without one. ValidationError (400) when it is none of this list."""
        if text is None:
            return None
        parts = decode(text)
        if parts is None or len(parts) != 3 or not all(type(part) is int for part in parts[1:]):
            raise unknown()
        back, rank, key = parts
        if rank not in RANKS or not 0 <= key <= LARGEST_ID:
            raise unknown()
        return Cursor((rank, key), back)

    def count(self) -> int:
        return len(self.look_up(None, None))

    def fetch(self, cursor: Cursor | None, limit: int) -> list[Model]:
        """At most so many records from the cursor on, the nearest first, each with its `search_rank`."""
        ranks = self.look_up(cursor, limit)
        rows = {row.pk: row for row in self.queryset.filter(pk__in=ranks)} if ranks else {}
        found = [rows[key] for key in ranks if key in rows]
        for row in found:
            row.search_rank = ranks[row.pk]
        return found

    def look_up(self, cursor: Cursor | None, limit: int | None) -> dict[int, int]:
        """The ranks of the records by their ids, in the order of the page, in one statement."""
        try:
            filtered, parameters = self.queryset.order_by().values("pk").query.sql_with_params()
        except EmptyResultSet:
            return {}
        back = cursor is not None and cursor.back
        ranks = [rank for rank in (RANKS[::-1] if back else RANKS) if cursor is None or self.ahead(rank, cursor)]
        stages = [self.stage(rank, ranks[:place], cursor, limit, filtered) for place, rank in enumerate(ranks)]
        union = " UNION ALL ".join(f"SELECT {rank}, record FROM rank{rank}" for rank in ranks)  # noqa: S608  (numbers)
        order = f"ORDER BY 1 {'DESC' if back else 'ASC'}, 2 {'ASC' if back else 'DESC'}"
        statement = f"{READINGS.format(words=self.index.words)}, {', '.join(stages)} {union} {order}"
        with connection.cursor() as execution:
            execution.execute(
                f"{statement} LIMIT {'ALL' if limit is None else int(limit)}", [self.text, *parameters * len(stages)]
            )
            return {key: rank for rank, key in execution.fetchall()}

    def ahead(self, rank: int, cursor: Cursor) -> bool:
        return rank <= cursor.values[0] if cursor.back else rank >= cursor.values[0]

    def stage(self, rank: int, done: list[int], cursor: Cursor | None, limit: int | None, filtered: str) -> str:
        terms, back = self.index.terms, cursor is not None and cursor.back
        bound = "true"
        if cursor and rank == cursor.values[0]:
            bound = f"found.record {'>' if back else '<'} {int(cursor.values[1])}"
        filled = " + ".join(f"(SELECT count(*) FROM rank{other})" for other in done)
        better = ALL_WORDS.format(terms=terms, rank=rank - 1)
        return STAGE.format(
            rank=rank,
            terms=terms,
            owner=int(self.owner),
            hidden="true" if self.hidden else "false",
            bound=bound,
            all_words=ALL_WORDS.format(terms=terms, rank=rank),
            not_better=NOT_BETTER.format(terms=terms, rank=rank, all_words=better) if rank else "",
            filtered=filtered,
            direction="ASC" if back else "DESC",
            limit="ALL" if limit is None else int(limit),
            unfilled=f"AND {filled} < {int(limit)}" if done and limit is not None else "",
        )
