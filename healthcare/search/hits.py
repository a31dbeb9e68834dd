"""Looking records up by what they are found by, the best first: exact, then by the beginning, then by similarity."""

from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import Model, QuerySet
from django.utils.functional import cached_property

from healthcare.api.cursors import Cursor, decode, unknown
from healthcare.model_fields import LARGEST_ID
from healthcare.search.index import Index
from healthcare.search.statements import Near, Page, Statement

RANKS = (0, 1, 2)


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
        return len(self.look_up(Page(None, None)))

    def fetch(self, cursor: Cursor | None, limit: int) -> list[Model]:
        """At most so many records from the cursor on, the nearest first, each with its `search_rank`."""
        ranks = self.look_up(Page(cursor, limit))
        rows = {row.pk: row for row in self.queryset.filter(pk__in=ranks)} if ranks else {}
        found = [rows[key] for key in ranks if key in rows]
        for row in found:
            row.search_rank = ranks[row.pk]
        return found

    def look_up(self, page: Page) -> dict[int, int]:
        """The ranks of the records by their ids, in the order of the page. Two statements when one rank fills it."""
        order = RANKS[::-1] if page.back else RANKS
        ranks = [rank for rank in order if page.reaches(rank) and rank in self.near.ranks]
        found: dict[int, int] = {}
        for some in (ranks[:1], ranks[1:]):
            if some and (page.limit is None or len(found) < page.limit):
                found |= self.execute(some, page.after(len(found)))
        return found

    @cached_property
    def near(self) -> Near:
        """What the text is like among the owner's words."""
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT place, rank, term, words FROM {self.index.words}_near(%s)", [self.text])  # noqa: S608
            return Near(cursor.fetchall())

    def execute(self, ranks: list[int], page: Page) -> dict[int, int]:
        try:
            allowed = self.queryset.order_by().values("pk").query.sql_with_params()
        except EmptyResultSet:
            return {}
        statement = Statement(self.index.terms, self.owner, self.hidden, self.near, page, *allowed)
        with connection.cursor() as cursor:
            cursor.execute(*statement.over(ranks))
            return {key: rank for rank, key in cursor.fetchall()}
