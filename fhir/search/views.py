"""The interaction search of a viewset: `GET [type]?…` and `POST [type]/_search`
(https://hl7.org/fhir/R4/http.html#search)."""

from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any, ClassVar, TypeAlias

from django.db import connection
from django.db.models import QuerySet
from django.http import QueryDict
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from audit.patient_data import patient_id_field_of, patient_ids_of
from audit.views import ReadsRecordedViewSet
from fhir.bundles import CURSOR_PARAMETER, bundle, link, page
from fhir.exceptions import Invalid
from fhir.issues import Issue
from fhir.rendering import SEARCH_PARSERS
from fhir.requests import FhirView
from fhir.search.parameters import Context, SearchParameter
from fhir.search.query import SEALED, Criterion, Query, QueryReader, filter_rows, seal, unseal
from fhir.search.results import search_entry, subset
from healthcare.api.cursors import Keyset
from healthcare.coverage import covered_by_fast_path
from healthcare.ownership import RecordOwner

IF_NONE_EXIST = "If-None-Exist"
Page: TypeAlias = tuple[list[Any], str | None]  # rows, and the cursor of the next page


@covered_by_fast_path
class SearchMixin(FhirView):
    """Adds the actions `list` and `search` (POST) to a view of a resource type.

    - `search_parameters`: what selects rows, by name; the CapabilityStatement lists them.
    - `sort_columns`: the columns that `_sort` accepts, by the name of the search parameter. Each is NOT NULL and has an
      index that ends in the key.
    - `search_inclusions`: the values that `_include` accepts, such as `CareTeam:subject`; `included` fetches them.

    A subclass says in `searched` which rows there are, and in `represent_all` what they look like. One whose rows are
    no queryset with a key of one column overrides `find_page`.
    """

    owner: RecordOwner
    resource_type: ClassVar[str]
    search_parameters: ClassVar[dict[str, SearchParameter]] = {}
    sort_columns: ClassVar[dict[str, str]] = {}
    search_inclusions: ClassVar[Set[str]] = frozenset()
    actions_without_key: ClassVar[Set[str]] = frozenset({"search"})
    key_column: ClassVar[str] = "id"

    def searched(self, criteria: Sequence[Criterion]) -> QuerySet:
        """The rows among which the criteria select."""
        raise NotImplementedError

    def represent_all(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """The resources of the rows of a page, in a number of statements that does not depend on how many there are."""
        raise NotImplementedError

    def included(self, rows: Sequence[Any], names: Sequence[str]) -> Iterable[dict[str, Any]]:
        """The resources that the rows of a page refer to, of these `search_inclusions`."""
        return ()

    @staticmethod
    def is_indexed(criteria: Sequence[Criterion]) -> bool:
        """Whether the terms of search have every row that is searched."""
        return True

    # The actions

    def get_parsers(self) -> list[BaseParser]:
        by_post = getattr(self, "action_map", {}).get("post") == "search"
        return [parser() for parser in SEARCH_PARSERS] if by_post else super().get_parsers()

    def check_query(self, request: Request, known: Set[str]) -> None:
        if self.action not in {"list", "search"}:
            super().check_query(request, known)
        elif self.action == "search":  # those of the URL, before the body is parsed
            self.reader().read(pairs_of(request.query_params))

    def reader(self, source: str = "") -> QueryReader:
        return QueryReader(self, lenient=self.preferences.get("handling") == "lenient", source=source)

    def list(self, request: Request) -> Response:
        return self.answer_search(list(pairs_of(request.query_params)), sealed=False)

    def search(self, request: Request) -> Response:
        """Parameters in the body appear in no URL: the `next` link has them encrypted."""
        try:
            body = request.data if isinstance(request.data, QueryDict) else QueryDict()
        except UnsupportedMediaType as error:
            wanted = "Send the parameters as application/x-www-form-urlencoded."
            raise Invalid(Issue("not-supported", wanted), status=error.status_code) from error
        parameters = request.query_params.copy()
        for name, values in body.lists():
            for value in values:
                parameters.appendlist(name, value)
        request._request.GET = parameters  # type: ignore[assignment]  # where `_pretty` is looked up
        self.perform_content_negotiation(request)  # `_format` may be in the body
        self.action = "list"  # from here on it is the list, also in the access log
        return self.answer_search(list(pairs_of(parameters)), sealed=True)

    def answer_search(self, pairs: Sequence[tuple[str, str]], *, sealed: bool) -> Response:
        self.handling = self.preferences.get("handling")
        seals = [text for name, text in pairs if name == SEALED]
        if seals:
            pairs = [*unseal(seals[0]), *(pair for pair in pairs if pair[0] != SEALED)]
        query = self.reader().read(pairs)
        rows = self.select(query.criteria)
        total = rows.count() if query.wants_total else None
        found, following = ([], None) if query.counts_only else self.find_page(rows, query)
        if isinstance(self, ReadsRecordedViewSet):
            self.note_reads(patient_ids_of(row for row in found if patient_id_field_of(row._meta.model)))
        entries = [search_entry(self.base, subset(one, query), "match") for one in self.represent_all(found)]
        entries += [search_entry(self.base, one, "include") for one in self.included(found, query.includes)]
        url = f"{self.base}/{self.resource_type}"
        body = bundle("searchset", url, entries, used=query.used, total=total, following=following)
        if following and (sealed or seals):
            hidden = {name: values for name, values in query.used.items() if name != CURSOR_PARAMETER}
            body["link"][1]["url"] = link(url, {SEALED: seal(hidden), CURSOR_PARAMETER: following})
        return self.answer(body)

    # Rows

    def select(self, criteria: Sequence[Criterion]) -> QuerySet:
        """The rows that all criteria select."""
        context = Context(self.owner, self.base, indexed=self.is_indexed(criteria))
        return filter_rows(self.searched(criteria), criteria, context)

    def find_page(self, rows: QuerySet, query: Query) -> Page:
        """The rows of the page that the query asks for, and the cursor of the next page. The newest come first."""
        sorts = query.sorts or ["-"]
        columns = [self.sort_columns.get(sort.removeprefix("-"), self.key_column) for sort in sorts]
        columns.append(self.key_column)
        columns = columns[: columns.index(self.key_column) + 1]  # what follows the key decides nothing
        return page(Keyset(rows, columns, descending=sorts[0].startswith("-")), query.results)


def pairs_of(parameters: QueryDict) -> Iterator[tuple[str, str]]:
    for name, values in parameters.lists():
        for value in values:
            yield name, str(value)


# Conditional create: https://hl7.org/fhir/R4/http.html#ccreate


def find(view: SearchMixin, text: str) -> list[int]:
    """The ids, at most two, of the records that a query string selects, such as that of `If-None-Exist`.

    Raises Invalid (400) for one that selects by nothing: every record would match.
    """
    criteria = view.reader(IF_NONE_EXIST).read_criteria(text)
    if not criteria:
        wanted = "Send search parameters in this header, such as `identifier=system|value`."
        raise Invalid(Issue("required", wanted, f"http.{IF_NONE_EXIST}"))
    return list(view.select(criteria).order_by().values_list("pk", flat=True)[:2])


def lock_condition(resource_type: str, owner: int | None, text: str) -> None:
    """Take an advisory lock on a condition until the transaction ends, so that of two requests that create a record
    under the same one the second sees the record of the first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('fhir.create ' || %s || '?' || %s, %s))",
            [resource_type, text, owner or 0],
        )
