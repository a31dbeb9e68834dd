"""The fast GET of a list, in pages."""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import BooleanField, F, QuerySet
from django.db.models.expressions import RawSQL
from django.http import HttpRequest, QueryDict

from healthcare.api.cursors import Cursor, Keyset
from healthcare.api.pagination import link_header, query_around_cursor, read_limit, read_ordering, read_search_text
from healthcare.api.sparse_fieldsets import PARAMETERS, FieldSelection
from healthcare.fastpath.actions import FastResponse, NotExpressibleError, encode_json, entry_statements
from healthcare.fastpath.eligibility import Obstacle
from healthcare.fastpath.execution import Statement, execute
from healthcare.fastpath.json_sql import Fragment
from healthcare.fastpath.list_filters import CONDITIONS, ListFilters, StatementWithConditions
from healthcare.fastpath.placeholders import KEY, Placeholder
from healthcare.fastpath.reads import WHOLE_RECORD, FastRead, parse_query, read_query
from healthcare.fastpath.replica_reads import ReplicaRead
from healthcare.fastpath.searches import FastSearch
from healthcare.fastpath.statements import IS_PRINCIPAL, CompiledRead, compile_read, compile_rows, distinct_ids
from healthcare.model_fields import LARGEST_ID
from healthcare.replicas.sessions import is_usable
from healthcare.rls.context import Entry
from healthcare.search.hits import Hits
from healthcare.search.index import Index

# The limits whose statements are planned once: what clients ask for most, as many as a session keeps.
PLANNED_LIMITS = {1, 10, 20, 50, 100}
EXISTS_TARGET = "EXISTS (SELECT FROM target)"
CURSOR = tuple(Placeholder(f"cursor {position}") for position in range(2))


class ListPage(NamedTuple):
    """What the statement of a page depends on. `back` is None on the first page, otherwise whether the page lies before
    the cursor."""

    limit: int
    ordering: str | None = None
    back: bool | None = None
    selection: FieldSelection = WHOLE_RECORD

    @property
    def columns(self) -> list[str]:
        """The columns that the list is ordered by."""
        return ["pk"] if self.ordering is None else [self.ordering.lstrip("-"), "pk"]

    @property
    def downwards(self) -> bool:
        """Whether the rows are read in descending order. Those before a cursor are read from the nearest one."""
        return (self.ordering is None or self.ordering.startswith("-")) != bool(self.back)

    @property
    def order_by(self) -> str:
        direction = "DESC" if self.downwards else "ASC"
        return f"ORDER BY {f'position {direction}, ' if self.ordering else ''}key {direction}"


class ListParameters(NamedTuple):
    """What a request asks for: the page, the position that it starts from, and the rows that the filters leave."""

    page: ListPage
    link_query: tuple[str, str]  # of `query_around_cursor`
    cursor: Cursor | None = None
    filtered: QuerySet | None = None  # None without filters
    names_record: bool = False  # whether a filter names another record by its id
    text: str | None = None  # to search for
    target: int | None = None  # the id in the path


class FastList(FastRead):
    """`GET /…/` with limit, cursor, ordering, search, fields, include and the filters of the viewset: 200 and 401."""

    planner_settings: Sequence[Statement] = ()  # for plans that `rls.context.PLANNED_ONCE` rules out
    path_arguments = frozenset()

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.compile = lru_cache(maxsize=256)(self.compile_list)
        self.compile_filtered_page = lru_cache(maxsize=256)(self.compile_with_place)
        filterset_class = self.options.get("filterset_class", getattr(self.viewset, "filterset_class", None))
        self.filters = ListFilters(filterset_class, self.rows_of_list)
        self.orderings = self.viewset.ordering_fields
        self.known_parameters = {"limit", "cursor"} | self.filters.names
        self.known_parameters |= {"ordering"} if self.orderings else set()
        self.known_parameters |= PARAMETERS if self.selects else set()
        index = self.options.get("search_index", getattr(self.viewset, "search_index", None))
        searches = self.action == "list" and not self.path_arguments
        self.search = FastSearch(self, index) if searches and isinstance(index, Index) else None
        self.known_parameters |= {"search"} if self.search else set()
        self.plain_parameters = lru_cache(maxsize=256)(self.parse_plain_query)
        # These values may name a person, and what they mean may depend on the clock.
        self.not_plain = frozenset({"cursor", "search", *self.filters.names})
        named = "|".join(sorted(self.not_plain))
        self.may_not_be_plain = re.compile(rf"\b({named})=|(^|&)[^&=]*[%+]")  # an encoded name may be one of them

    def obstacles_of_statements(self) -> Iterator[Obstacle]:
        yield from super().obstacles_of_statements()
        yield from self.filters.obstacles()
        self.compile(ListPage(20))
        if self.search:
            yield from self.search.obstacles()

    @cached_property
    def on_replica(self) -> ReplicaRead | None:
        """How the list is read on a replica."""
        reads_replicas = self.viewset.reads_replicas and self.action == "list" and self.recording is not None
        return ReplicaRead(self) if reads_replicas else None

    def rows_of_list(self) -> QuerySet:
        return self.rows()

    def compile_list(self, page: ListPage) -> CompiledRead:
        return self.compile_page(self.rows_of_list(), page, plannable=True)

    def compile_page(
        self, rows: QuerySet, page: ListPage, *, plannable: bool, needs_rows: bool = False
    ) -> CompiledRead:
        columns, downwards = page.columns, page.downwards
        values: dict[str, Any] = {"key": F("pk")}
        if self.recording:
            values["subject"] = F(self.recording.column)
        if page.ordering:
            values["position"] = F(columns[0])
        rows = rows.order_by(*(f"-{column}" if downwards else column for column in columns))
        if page.back is not None:
            rows = rows.filter(self.beyond_cursor(columns, downwards))
        fragment = compile_rows(self.with_content(rows, page.selection, values))
        expressions = self.compile_target()
        expressions["page"] = Fragment(f"{fragment.sql} LIMIT {page.limit + 1}", fragment.parameters)
        if self.recording:
            answered = Fragment(f"SELECT subject FROM page {page.order_by} LIMIT {page.limit}")  # noqa: S608
            condition = " AND EXISTS (SELECT FROM page)" if needs_rows else ""
            expressions["recorded"] = self.record_list(distinct_ids(answered), condition)
        rare = page.selection != WHOLE_RECORD or page.ordering is not None or needs_rows
        plannable = plannable and page.limit in PLANNED_LIMITS
        return compile_read(expressions, self.compile_result(page), state=self.state, plannable=plannable, rare=rare)

    def compile_result(self, page: ListPage) -> Fragment:
        """At least one row: whether the list exists, then what a row of the page holds, in the order of the scan."""
        exists, target = (
            ("target.found IS NOT NULL", "LEFT JOIN target ON true ") if self.path_arguments else ("true", "")
        )
        position = ", page.position" if page.ordering else ""
        return Fragment(
            f"{exists}, page.key, {self.content_of_page()}{position} "
            f"FROM (VALUES (1)) AS one {target}LEFT JOIN page ON true {page.order_by}"
        )

    def compile_target(self) -> dict[str, Fragment]:
        """The record in the path, as the expression `target`; nothing to select for a path without one."""
        return {}

    def record_list(self, ids: Fragment, condition: str = "") -> Fragment:
        """The INSERT that records the access to these ids, if the caller's session is live and the condition holds."""
        condition = f"{IS_PRINCIPAL.sql}{f' AND {EXISTS_TARGET}' if self.path_arguments else ''}{condition}"
        return self.recording.fragment(ids, Fragment("200"), Fragment(condition, IS_PRINCIPAL.parameters))  # type: ignore[union-attr]

    def beyond_cursor(self, columns: Sequence[str], downwards: bool) -> Any:
        fields = [self.model._meta.pk if name == "pk" else self.model._meta.get_field(name) for name in columns]
        table, sign = self.model._meta.db_table, "<" if downwards else ">"
        left = ", ".join(f'"{table}"."{field.column}"' for field in fields)
        right = ", ".join(f"%s::{field.rel_db_type(connection)}" for field in fields)
        # One comparison of rows, which an index on these columns serves.
        return RawSQL(f"({left}) {sign} ({right})", CURSOR[: len(columns)], BooleanField())  # noqa: S611

    def read_parameters(self, request: HttpRequest, kwargs: dict[str, Any]) -> ListParameters:
        query, parameters = request.META["QUERY_STRING"], None
        if not self.may_not_be_plain.search(query):
            parameters = self.plain_parameters(query, request.encoding)
        if parameters is None:
            parameters = self.parse(request.GET)
        return parameters._replace(target=self.target_of(kwargs)) if self.path_arguments else parameters

    def parse_plain_query(self, query: str, encoding: str | None) -> ListParameters | None:
        """The parameters of a query string, which alone determines them; None if another could mean the same."""
        names = parse_query(query, encoding)
        return self.parse(names) if self.not_plain.isdisjoint(names) else None

    def parse(self, query: QueryDict) -> ListParameters:
        parameters = read_query(query, self.known_parameters)
        ordering = read_ordering(parameters, self.orderings) if self.orderings else None
        page = ListPage(read_limit(parameters), ordering, None, self.read_selection(parameters))
        text = read_search_text(parameters) if self.search else None
        if text is not None and ordering is not None:
            raise NotExpressibleError
        position = parameters.get("cursor")
        cursor = self.read_cursor(position, page.columns) if text is None else Hits.read(position)
        filtered, names_record = None, False
        if not self.filters.names.isdisjoint(parameters):
            filtered, names_record = self.filters.apply(query)
        if cursor:
            page = page._replace(back=cursor.back)
        return ListParameters(page, query_around_cursor(parameters), cursor, filtered, names_record, text)

    def read_cursor(self, text: str | None, columns: list[str]) -> Cursor | None:
        if text is None:
            return None
        return Keyset(self.model._default_manager.none(), columns, descending=True).read(text)

    def target_of(self, kwargs: dict[str, Any]) -> int:
        key = int(next(iter(kwargs.values())))
        if not 0 < key <= LARGEST_ID:
            raise NotExpressibleError
        return key

    def is_cacheable(self, parameters: ListParameters) -> bool:
        return super().is_cacheable(parameters) and parameters.text is None

    def planner_settings_of(self, parameters: ListParameters) -> Sequence[Statement]:
        return self.planner_settings

    def compile_for(self, parameters: ListParameters) -> CompiledRead:
        if self.search and parameters.text is not None:
            return self.search.compile_for(parameters)
        if parameters.filtered is not None:
            return self.compile_filtered(parameters, parameters.filtered)
        return self.compile(parameters.page)

    def compile_filtered(self, parameters: ListParameters, rows: QuerySet) -> CompiledRead:
        """The statement of a filtered page. Only the conditions are compiled, unless the filters join other tables."""
        page = parameters.page
        conditions = self.filters.conditions_of(rows)
        if conditions is None:
            return self.compile_page(rows, page, plannable=False, needs_rows=parameters.names_record)
        statement = self.compile_filtered_page(page, parameters.names_record)
        return CompiledRead(statement.with_conditions(conditions), page.limit in PLANNED_LIMITS, rare=True)

    def compile_with_place(self, page: ListPage, needs_rows: bool) -> StatementWithConditions:
        place = RawSQL("%s", [CONDITIONS], BooleanField())
        rows = self.filters.unfiltered.filter(place)
        return StatementWithConditions.of(
            self.compile_page(rows, page, plannable=False, needs_rows=needs_rows).fragment
        )

    def execute_read(
        self, request: HttpRequest, entry: Entry, parameters: ListParameters, before: list[Statement]
    ) -> tuple[FastResponse | None, str | None]:
        values = self.values_of(request, entry)
        values[KEY] = parameters.target
        if parameters.cursor:
            values |= dict(zip(CURSOR, parameters.cursor.values, strict=False))
        rows, principal, version = self.read_rows(entry, parameters, values, before)
        exists, first_key = rows[0][2:4]
        if not self.confirm_entry(request, entry, principal):
            return self.respond_unverified(request, entry), None
        if not exists or (first_key is None and parameters.names_record):
            # There is no such parent, or a filter may name what is not there. Nothing has been recorded.
            return None, None
        page = [] if first_key is None else rows[: parameters.page.limit]
        if parameters.page.back:
            page.reverse()
        return self.respond_with_page(request, parameters, page, more=len(rows) > parameters.page.limit), version

    def read_rows(
        self, entry: Entry, parameters: ListParameters, values: dict[Placeholder, Any], before: list[Statement]
    ) -> tuple[list[tuple[Any, ...]], str, str | None]:
        """The rows of the page and one more, whom they were read for, and the version of the cached table."""
        reads_replicas = self.on_replica is not None and is_usable()
        if self.search and parameters.text is not None:
            if reads_replicas:
                raise NotExpressibleError
            rows = self.search.read(entry, parameters, values)
        elif reads_replicas and (replica := self.on_replica.read(entry, parameters, values)):  # type: ignore[union-attr]
            return replica.rows, replica.principal, None
        else:
            statement = self.compiled(parameters).statement(values)
            rows = execute([*before, *entry_statements(entry), *self.planner_settings_of(parameters), statement])
        return rows, *rows[0][:2]

    def respond_with_page(
        self, request: HttpRequest, parameters: ListParameters, page: list[Any], *, more: bool
    ) -> FastResponse:
        """The answer with the rows of a page: of each, after three values that are not its own, the key, the content
        and the position."""
        headers = self.page_links(request, parameters, page, more=more)
        body = encode_json(f"[{','.join([row[4] for row in page])}]")
        return self.respond_with_json(body, headers=headers)

    def page_links(
        self, request: HttpRequest, parameters: ListParameters, page: list[Any], *, more: bool
    ) -> dict[str, str]:
        if not page or not (more or parameters.cursor):
            return {}
        before, after = (
            Cursor((*map(cursor_value, row[5:]), row[3]), back) for row, back in ((page[0], True), (page[-1], False))
        )
        return link_header(request, parameters.cursor, before, after, more=more, query=parameters.link_query)


def cursor_value(value: Any) -> Any:
    """A value as in the cursors of `Keyset`."""
    return value.isoformat() if hasattr(value, "isoformat") else value
