"""The fast paths of read and search: one statement reads the rows, and the mapping of `views` writes the resources."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from fhir.json import encode
from fhir.outcomes import FHIR_JSON
from fhir.rendering import FORMAT_PARAMETER, PARSERS, FhirNegotiation, FhirRenderer, accepts_json, is_json
from fhir.versions import version_headers, weak
from healthcare.api.conditional_requests import matches
from healthcare.api.sparse_fieldsets import FieldSelection
from healthcare.fastpath.actions import NotExpressibleError
from healthcare.fastpath.eligibility import VIEW_ATTRIBUTES, Obstacle
from healthcare.fastpath.json_sql import Fragment
from healthcare.fastpath.model_rows import ModelRows
from healthcare.fastpath.placeholders import KEY, OWNER, Parameter
from healthcare.fastpath.reads import WHOLE_RECORD, FastRead, read_query
from healthcare.fastpath.retrieve import FastRetrieve, RecordParameters
from healthcare.fastpath.statements import compile_rows


class FastResources(FastRead):
    """Reads of resources. The viewset says in `related_values` what a resource has of other rows, in `with_related`
    which these are, and in `resource_of` what the resource of a row is."""

    content_type = FHIR_JSON
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
        if request.META["QUERY_STRING"] and not is_json(read_query(request.GET, {FORMAT_PARAMETER})[FORMAT_PARAMETER]):
            raise NotExpressibleError
        return self.parameters_of(request, kwargs, WHOLE_RECORD)

    def respond_with_record(self, content: Sequence[Any]) -> HttpResponse:
        row, resource = self.represent(content)
        return self.respond_with_json(encode(resource).encode(), headers=version_headers(row))
