"""The fast paths of read and search: one statement reads the rows, and the mapping of `views` writes the resources."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.functional import cached_property

from fhir.bundles import CURSOR_PARAMETER, bundle
from fhir.json import encode
from fhir.outcomes import FHIR_JSON
from fhir.rendering import ANSWER_FORMAT, PARSERS, FhirNegotiation, FhirRenderer, accepts_json, is_json
from fhir.requests import base_url
from fhir.search.parameters import Context
from fhir.search.query import SEALED, Query, QueryReader, filter_rows
from fhir.search.results import search_entry, subset
from fhir.search.views import pairs_of
from fhir.versions import version_headers, weak
from healthcare.api.conditional_requests import matches
from healthcare.api.cursors import Cursor
from healthcare.api.sparse_fieldsets import FieldSelection
from healthcare.fastpath.actions import FastResponse, NotExpressibleError
from healthcare.fastpath.eligibility import VIEW_ATTRIBUTES, Obstacle
from healthcare.fastpath.execution import Statement
from healthcare.fastpath.json_sql import Fragment
from healthcare.fastpath.lists import FastList, ListPage, cursor_value
from healthcare.fastpath.model_rows import ModelRows
from healthcare.fastpath.placeholders import KEY, OWNER, Parameter
from healthcare.fastpath.reads import WHOLE_RECORD, FastRead, read_query
from healthcare.fastpath.retrieve import FastRetrieve, RecordParameters
from healthcare.fastpath.statements import CompiledRead, compile_rows
from healthcare.ownership import RecordOwner
from healthcare.rls.context import PLANNED_FOR_VALUES, Entry

NOT_SERVED = {"_pretty", SEALED}  # parameters of a search


class FhirResponse(FastResponse):
    """An answer whose `data` is the text that `FhirRenderer` writes."""

    renderer_class = FhirRenderer

    @cached_property
    def data(self) -> str:
        return self.body.decode()


class FastResources(FastRead):
    """Reads of resources. The viewset says in `related_values` what a resource has of other rows, in `with_related`
    which these are, and in `resource_of` what the resource of a row is."""

    content_type = FHIR_JSON
    response_class = FhirResponse
    view_attributes = VIEW_ATTRIBUTES | {
        "renderer_classes": [FhirRenderer],
        "parser_classes": PARSERS,
        "content_negotiation_class": FhirNegotiation,
        "pagination_class": None,
        "filter_backends": [],
    }

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.related: Mapping[str, str] = self.viewset.related_values
        self.model_rows = ModelRows(self.model, [*self.related])
        self.content_columns = self.model_rows.names

    def obstacles_of_statements(self) -> Iterator[Obstacle]:
        yield from super().obstacles_of_statements()
        try:
            self.viewset.resource_of(self.model_rows.blank(id=1, updated_at=timezone.now()))
        except AttributeError as error:
            yield Obstacle(f"{self.viewset.__name__}.resource_of", f"A row has no {error.name}; add a related value.")

    def with_content(self, rows: QuerySet, selection: FieldSelection, values: Mapping[str, Any]) -> QuerySet:
        related = {name: F(lookup) for name, lookup in self.related.items()}
        return self.viewset.with_related(rows).values(*self.model_rows.columns, **values, **related)  # type: ignore[no-any-return]

    def respond(self, request: HttpRequest, kwargs: dict[str, Any]) -> HttpResponse | None:
        if "HTTP_PREFER" in request.META or not accepts_json(request):
            return None
        return super().respond(request, kwargs)

    def is_held(self, response: HttpResponse, tags: set[str]) -> bool:
        return "ETag" in response.headers and matches(response.headers["ETag"], weak(tags))

    def represent(self, content: Sequence[Any]) -> tuple[Any, dict[str, Any]]:
        """The row of these values, and its resource."""
        row = self.model_rows.row(content)
        return row, self.viewset.resource_of(row)


class FastResourceRead(FastResources, FastRetrieve):
    """`GET [type]/<id>`: 200, 304, 401, and 404. A deleted record is left to standard DRF, which answers 410."""

    def rows(self) -> QuerySet:
        return self.viewset.readable(self.viewset.scope(Parameter(OWNER)))  # type: ignore[no-any-return]

    def compile_successor(self) -> dict[str, Fragment]:
        """A row if the record is deleted."""
        scope: QuerySet = self.viewset.scope(Parameter(OWNER))
        deleted = compile_rows(scope.filter(pk=Parameter(KEY)).order_by().values("pk"))
        return {"successor": Fragment(f"{deleted.sql} AND NOT EXISTS (SELECT FROM page)", deleted.parameters)}

    def entity_tag(self) -> Fragment:
        return Fragment("""('"' || version || '"')""")

    def read_parameters(self, request: HttpRequest, kwargs: dict[str, Any]) -> RecordParameters:
        if request.META["QUERY_STRING"] and not is_json(read_query(request.GET, {ANSWER_FORMAT})[ANSWER_FORMAT]):
            raise NotExpressibleError
        return self.parameters_of(request, kwargs, WHOLE_RECORD)

    def respond_with_record(self, content: Sequence[Any]) -> FastResponse:
        row, resource = self.represent(content)
        return self.respond_with_json(encode(resource).encode(), headers=version_headers(row))


class SearchRequest(NamedTuple):
    """`filtered` are the rows that the criteria of the query leave; None without criteria."""

    page: ListPage
    query: Query
    base: str
    cursor: Cursor | None = None
    filtered: QuerySet | None = None
    names_record: bool = False
    text: None = None
    target: None = None


class FastResourceSearch(FastResources, FastList):
    """`GET [type]?…`: 200 and 401. Totals, several sort keys and searches that find merged records are left to
    standard DRF.

    A search by criteria is planned for its values. Texts that have to be normalized for it are sent before it.
    """

    def rows(self) -> QuerySet:
        return self.viewset.scope(Parameter(OWNER)).active()  # type: ignore[no-any-return]

    def read_parameters(self, request: HttpRequest, kwargs: dict[str, Any]) -> Any:
        sent = request.GET
        if not NOT_SERVED.isdisjoint(sent) or (ANSWER_FORMAT in sent and not is_json(str(sent[ANSWER_FORMAT]))):
            raise NotExpressibleError
        query = QueryReader(self.viewset, lenient=False).read(pairs_of(sent))
        if query.wants_total or not self.viewset.is_indexed(query.criteria):
            raise NotExpressibleError
        page = ListPage(query.count, self.ordering_of(query))
        cursor = self.read_cursor(query.results.get(CURSOR_PARAMETER), page.columns)
        if cursor and cursor.back:
            raise NotExpressibleError
        if cursor:
            page = page._replace(back=False)
        filtered = self.filters.unfiltered if query.criteria else None
        return SearchRequest(page, query, base_url(request), cursor, filtered)

    def ordering_of(self, query: Query) -> str | None:
        """The column that the rows are ordered by besides their key, descending after a minus; None for the latest
        first."""
        if len(query.sorts) > 1:
            raise NotExpressibleError
        sort = query.sorts[0] if query.sorts else "-_id"
        column = self.viewset.sort_columns[sort.removeprefix("-")]
        if column != self.viewset.key_column:
            return f"-{column}" if sort.startswith("-") else column
        if sort.startswith("-"):
            return None
        raise NotExpressibleError

    def execute_read(
        self, request: HttpRequest, entry: Entry, parameters: Any, before: list[Statement]
    ) -> tuple[FastResponse | None, str | None]:
        if parameters.query.criteria:
            owner: Any = RecordOwner(Parameter(OWNER))  # type: ignore[arg-type]  # any owner: the statement gets the id
            context = Context(owner, parameters.base)
            filtered = filter_rows(self.filters.unfiltered, parameters.query.criteria, context)
            parameters = parameters._replace(filtered=filtered)
        return super().execute_read(request, entry, parameters, before)

    def compile_filtered(self, parameters: Any, rows: QuerySet) -> CompiledRead:
        return replace(super().compile_filtered(parameters, rows), plannable=False)

    def planner_settings_of(self, parameters: Any) -> Sequence[Statement]:
        return () if parameters.filtered is None else [Statement(PLANNED_FOR_VALUES)]

    def respond_with_page(self, request: HttpRequest, parameters: Any, page: list[Any], *, more: bool) -> FastResponse:
        query, base = parameters.query, parameters.base
        resources = [self.represent(row[4 : 4 + len(self.content_columns)])[1] for row in page]
        entries = [search_entry(base, subset(one, query), "match") for one in resources]
        following = self.cursor_after(parameters.page, page[-1]).text() if more else None
        url = f"{base}/{self.viewset.resource_type}"
        body = bundle("searchset", url, entries, used=query.used, following=following)
        return self.respond_with_json(encode(body).encode())

    def cursor_after(self, page: ListPage, row: Any) -> Cursor:
        position = [cursor_value(row[-1])] if page.ordering else []
        return Cursor((*position, row[3]), back=False)
