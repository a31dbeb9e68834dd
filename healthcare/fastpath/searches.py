"""Searches of a fast list: the hits are looked up first, and one statement then reads and records them."""

from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from typing import Any

from django.db import connection
from django.db.models import BooleanField, F, QuerySet
from django.db.models.expressions import RawSQL

from healthcare.api.sparse_fieldsets import FieldSelection
from healthcare.fastpath.actions import NotExpressibleError, entry_statements
from healthcare.fastpath.eligibility import Obstacle, patches
from healthcare.fastpath.execution import Statement, execute
from healthcare.fastpath.json_sql import Fragment
from healthcare.fastpath.placeholders import OWNER, Placeholder, fill
from healthcare.fastpath.statements import (
    IS_PRINCIPAL,
    CompiledRead,
    compile_read,
    compile_rows,
    distinct_ids,
    principal_of,
)
from healthcare.replicas.hits import ReplicaHits
from healthcare.rls.context import CLAIM, PLANNED_FOR_VALUES, RESET_ROLE, TAKE_ROLE, Entry, claims
from healthcare.search.hits import Hits
from healthcare.search.index import Index
from healthcare.search.statements import PageOfHits, QueryTerms

HITS, LIMIT = Placeholder("ids of the hits, best first"), Placeholder("limit")
BEST_FIRST = "ORDER BY array_position(%s::bigint[], page.key)"


class FastHits(Hits):
    """Hits that are looked up in messages of their own.

    The first one authenticates the caller, and finds no terms for one whom it refuses, so that nothing else is looked
    up. In the next ones the caller is what the token claims. The statement that reads the records authenticates again.
    """

    def __init__(self, search: "FastSearch", entry: Entry, text: str, rows: QuerySet | None) -> None:
        owner = int(entry.owner.pk or 0) if search.index.owner else 0
        super().__init__(search.rows if rows is None else rows, search.index, text, owner=owner, hidden=False)
        self.search, self.entry, self.is_filtered = search, entry, rows is not None

    def allowed(self) -> tuple[str, Any]:
        fragment = compile_keys(self.queryset) if self.is_filtered else self.search.keys
        return fragment.sql, fill(fragment.parameters, {OWNER: self.entry.owner.pk})

    @cached_property
    def query_terms(self) -> QueryTerms:
        near = f"SELECT place, rank, term, words FROM {self.index.words}_near(%s) WHERE {IS_PRINCIPAL.sql}"  # noqa: S608
        rows = execute(
            [
                *entry_statements(self.entry),
                Statement(PLANNED_FOR_VALUES),
                Statement(near, [self.text, principal_of(self.entry)]),
            ]
        )
        return QueryTerms(rows)

    def query(self, sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
        claim = Statement(CLAIM, claims(self.entry.caller, self.entry.owner), plannable=True)
        return execute([claim, Statement(TAKE_ROLE), Statement(sql, parameters)])


class FastSearch:
    """The searches of one list by `?search=`."""

    def __init__(self, action: Any, index: Index) -> None:  # of FastList, which imports this module
        self.action, self.index = action, index
        self.compile = lru_cache(maxsize=64)(self.compile_records)

    @cached_property
    def rows(self) -> QuerySet:
        """The rows of the list. Never evaluated."""
        rows: QuerySet = self.action.rows_of_list()
        return rows

    @cached_property
    def keys(self) -> Fragment:
        return compile_keys(self.rows)

    def obstacles(self) -> Iterator[Obstacle]:
        self.compile(FieldSelection())
        for kind in (Hits, ReplicaHits):
            yield from patches(kind)

    def compile_for(self, parameters: Any) -> CompiledRead:
        page = parameters.page
        if parameters.filtered is None:
            return self.compile(page.selection)
        return self.compile_records(page.selection, parameters.filtered, parameters.names_record)

    def compile_records(
        self, selection: FieldSelection, filtered: QuerySet | None = None, needs_rows: bool = False
    ) -> CompiledRead:
        """The statement that reads the records `HITS`, of which the first `LIMIT` are answered. With `needs_rows` it
        records nothing if there are none."""
        action = self.action
        subject = {"subject": F(action.recording.column)} if action.recording else {}
        column = f'"{action.model._meta.db_table}"."{action.model._meta.pk.column}"'
        among_hits = RawSQL(f"{column} = ANY(%s::bigint[])", [HITS], BooleanField())  # noqa: S611  (names of the model)
        rows = (self.rows if filtered is None else filtered).filter(among_hits).order_by()
        expressions = {"page": compile_rows(action.with_content(rows, selection, {"key": F("pk"), **subject}))}
        if action.recording:
            answered = Fragment(f"SELECT subject FROM page {BEST_FIRST} LIMIT %s", (HITS, LIMIT))  # noqa: S608  (a constant)
            condition = " AND EXISTS (SELECT FROM page)" if needs_rows else ""
            expressions["recorded"] = action.record_list(distinct_ids(answered), condition)
        result = (
            f"true, page.key, {action.content_of_page()} FROM (VALUES (1)) AS one LEFT JOIN page ON true {BEST_FIRST}"
        )
        return compile_read(
            expressions,
            Fragment(result, (HITS,)),
            state=action.state,
            plannable=filtered is None,
            rare=selection != FieldSelection(),
        )

    def read(self, entry: Entry, parameters: Any, values: Mapping[Placeholder, Any]) -> list[tuple[Any, ...]]:
        """The rows of a page and one more, best first, as `FastList` reads them, each with the hit's rank at its end.

        Raises NotExpressibleError for what standard DRF has to answer.
        """
        limit = parameters.page.limit
        compiled = self.action.compiled(parameters)  # before anything is sent
        hits = FastHits(self, entry, parameters.text, parameters.filtered)
        found = hits.look_up(PageOfHits(parameters.cursor, limit + 1))
        if not found and parameters.names_record:
            raise NotExpressibleError  # the record may not be there
        statement = compiled.statement({**values, HITS: list(found), LIMIT: limit})
        # In an outer transaction the role of the messages before hides the owner's account from the authentication.
        role = [Statement(RESET_ROLE)] if connection.in_atomic_block else []
        rows = execute([*role, *entry_statements(entry), statement])
        return [(*row, found.get(row[3])) for row in rows]


def compile_keys(rows: QuerySet) -> Fragment:
    return compile_rows(rows.order_by().values("pk"))
