"""Search results in pages, best first: equal words, then words that begin so, then similar ones."""

from typing import Any, Self

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import Model, QuerySet
from django.utils.functional import cached_property

from healthcare.api.cursors import Cursor, decode_cursor, invalid_cursor
from healthcare.characters import FULL_WIDTH
from healthcare.model_fields import LARGEST_ID
from healthcare.phones import as_search_text
from healthcare.search.index import Index
from healthcare.search.statements import PageOfHits, QueryTerms, SearchStatement

RANKS = (0, 1, 2)
LARGEST_COUNT = 10_000  # hits: a word that most names share would make a count cost as much as the list is long


class Hits:
    """The records of a queryset that match a text. A cursor holds the rank and the id of a row."""

    def __init__(self, queryset: QuerySet, index: Index, text: str, *, owner: int, hidden: bool) -> None:
        self.queryset, self.index, self.owner, self.hidden = queryset, index, owner, hidden
        self.text = as_search_text(text.translate(FULL_WIDTH))
        self.database: Any = connection  # where hits are looked up

    @classmethod
    def of(cls, queryset: QuerySet, view: Any, text: str, *, hidden: bool) -> Self:
        index: Index = view.search_index
        return cls(queryset, index, text, owner=view.owner.pk if index.owner else 0, hidden=hidden)

    def cursor(self, row: Any, *, back: bool) -> Cursor:
        return Cursor((row.search_rank, row.pk), back)

    @staticmethod
    def read(text: str | None) -> Cursor | None:
        """Decode the cursor that a client sent; None for none. Raises ValidationError (400) for any other text."""
        if text is None:
            return None
        parts = decode_cursor(text)
        if parts is None or len(parts) != 3 or not all(type(part) is int for part in parts[1:]):
            raise invalid_cursor()
        back, rank, key = parts
        if rank not in RANKS or not 0 <= key <= LARGEST_ID:
            raise invalid_cursor()
        return Cursor((rank, key), back)

    def count(self) -> str:
        """The number of hits, `10000+` beyond 10,000."""
        hits = len(self.look_up(PageOfHits(None, LARGEST_COUNT + 1)))
        return str(hits) if hits <= LARGEST_COUNT else f"{LARGEST_COUNT}+"

    def fetch(self, cursor: Cursor | None, limit: int) -> list[Model]:
        """At most `limit` records after the cursor, best first, each with its `search_rank`."""
        ranks = self.look_up(PageOfHits(cursor, limit))
        rows = {row.pk: row for row in self.queryset.filter(pk__in=ranks)} if ranks else {}
        found = [rows[key] for key in ranks if key in rows]
        for row in found:
            row.search_rank = ranks[row.pk]
        return found

    def look_up(self, page: PageOfHits) -> dict[int, int]:
        """The records' ranks by their ids, in the order of the page.

        Tries the first rank alone, since it often fills the page; only otherwise the rest in a second statement.
        """
        order = RANKS[::-1] if page.back else RANKS
        ranks = [rank for rank in order if page.reaches(rank) and rank in self.query_terms.ranks]
        found: dict[int, int] = {}
        for some in self.stages(ranks):
            if some and (page.limit is None or len(found) < page.limit):
                found |= self.execute(some, page.after(len(found)))
        return found

    def stages(self, ranks: list[int]) -> list[list[int]]:
        """The ranks that one statement looks up together."""
        return [ranks[:1], ranks[1:]]

    @cached_property
    def query_terms(self) -> QueryTerms:
        """The terms to look up: those of the owner's words that equal or resemble the words of the text."""
        sql = f"SELECT place, rank, term, words FROM {self.index.words}_near(%s)"  # noqa: S608
        return QueryTerms(self.query(sql, [self.text]))

    def statement(self, page: PageOfHits, allowed: str, parameters: Any) -> SearchStatement:
        """The statement of a page. `allowed` is SQL for the ids of the queryset, with its parameters."""
        return SearchStatement(self.index.terms, self.owner, self.hidden, self.query_terms, page, allowed, parameters)

    def execute(self, ranks: list[int], page: PageOfHits) -> dict[int, int]:
        try:
            allowed = self.allowed()
        except EmptyResultSet:
            return {}
        return {key: rank for rank, key in self.query(*self.statement(page, *allowed).for_ranks(ranks))}

    def allowed(self) -> tuple[str, Any]:
        """SQL for the ids of the queryset, and its parameters. Raises EmptyResultSet where there can be none."""
        return self.queryset.order_by().values("pk").query.sql_with_params()

    def query(self, sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
        with self.database.cursor() as cursor:
            cursor.execute(sql, parameters)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows
