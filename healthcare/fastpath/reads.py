"""The base class of the fast GETs: parameters, the public cache, conditional requests and what a record contains."""

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import lru_cache, partial
from typing import Any

from django.core.exceptions import EmptyResultSet, FullResultSet, SuspiciousOperation
from django.db import Error, connection
from django.db.models import F, Model, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils import timezone
from django.utils.functional import cached_property
from psycopg2.errors import LockNotAvailable
from rest_framework.exceptions import APIException, AuthenticationFailed, NotAuthenticated
from rest_framework.serializers import BaseSerializer, ListSerializer

from healthcare.api.conditional_requests import matches, read_tags
from healthcare.api.sparse_fieldsets import PARAMETERS, FieldSelection, Inclusion
from healthcare.coverage import is_covered
from healthcare.fastpath import public_cache
from healthcare.fastpath.actions import FastAction, FastResponse, NotExpressibleError, basis_of, obstacles_of_scope
from healthcare.fastpath.eligibility import Obstacle, obstacles_of_serializer
from healthcare.fastpath.execution import Statement, execute
from healthcare.fastpath.json_sql import Fragment, UnsupportedError, included_as_json, record_as_json, substitute
from healthcare.fastpath.placeholders import (
    BASIS,
    CALLER,
    OWNER,
    PARENT,
    PRINCIPAL,
    REQUEST_ID,
    TODAY,
    Parameter,
    Placeholder,
)
from healthcare.fastpath.statements import CompiledRead, compile_rows, principal_of, raw_sql
from healthcare.postgresql.errors import waiting_is_futile
from healthcare.rls.context import Entry

WHOLE_RECORD = FieldSelection()
TABLES = re.compile(r'\b(?:FROM|JOIN)\s+"?(\w+)')  # that a statement of Django reads
TABLE_VERSION = "nullif(current_setting('fastpath.table_version', true), '')"
CACHED_HEADERS = {"ETag", "Last-Modified", "Link"}


class FastRead(FastAction):
    """The base class of the reads of a record and of a list."""

    content_columns: Sequence[str] = ("content",)  # of a row, by their names in the statement

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.cached_table = self.model._meta.db_table if self.viewset.cached_by_table_version else None
        self.state = TABLE_VERSION if self.cached_table else "NULL::text"  # of the data, as SQL in the statement
        self.inclusions: Mapping[str, Inclusion] = self.viewset.inclusions if self.selects else {}
        self.content = lru_cache(maxsize=256)(self.compile_content)

    @cached_property
    def models(self) -> list[type[Model]]:
        included = [one.links().model for one in self.inclusions.values()]
        related = [one.serializer.Meta.model for one in self.inclusions.values()]  # type: ignore[attr-defined]
        return [*dict.fromkeys([self.model, *included, *related])]

    @property
    def selects(self) -> bool:
        return self.action in self.viewset.selecting_actions

    def obstacles_of_statements(self) -> Iterator[Obstacle]:
        yield from super().obstacles_of_statements()
        for name, inclusion in self.inclusions.items():
            member = f"{self.viewset.__name__}.inclusions[{name!r}]"
            field = inclusion.field()
            if type(field) is not ListSerializer or type(field.child) is not inclusion.serializer:
                yield Obstacle(f"{member}.field", "It has to be a list of the inclusion's serializer.")
            if not is_covered(inclusion.fetch):
                yield Obstacle(
                    f"{member}.fetch", "Cover it (healthcare.coverage) if it changes nothing of the records."
                )
            yield from obstacles_of_serializer(inclusion.serializer)
            yield from obstacles_of_scope(f"{member}.links", partial(inclusion_links, inclusion))
            self.content(FieldSelection(included=frozenset({name})))
        if self.cached_table and (self.recording or self.viewset.acts_for_owner):
            hint = "A cached answer records no access, and is the same for every owner."
            yield Obstacle(f"{self.viewset.__name__}.cached_by_table_version", hint)
        elif self.cached_table and (self.inclusions or not self.is_same_for_everybody()):
            hint = "A cached answer depends on its own table alone, not on the owner or on other tables."
            yield Obstacle(f"{self.viewset.__name__}.cached_by_table_version", hint)

    def is_same_for_everybody(self) -> bool:
        rows = compile_rows(self.rows())
        return OWNER not in rows.parameters and {*TABLES.findall(rows.sql)} == {self.cached_table}

    def compile_content(self, selection: FieldSelection) -> Fragment:
        included = [
            (name, included_as_json(self.compile_links(self.inclusions[name]))) for name in self.inclusions
            if name in selection.included
        ]  # fmt: skip
        return record_as_json(self.serializer(), only=selection.fields, inclusions=included)

    def with_content(self, rows: QuerySet, selection: FieldSelection, values: Mapping[str, Any]) -> QuerySet:
        """The rows with `content_columns`, and with these expressions by name."""
        return rows.values(**values, **self.content_values(selection))

    def content_values(self, selection: FieldSelection) -> dict[str, Any]:
        return {"content": raw_sql(self.content(selection))}

    def content_of_page(self) -> str:
        return ", ".join(f'page."{column}"' for column in self.content_columns)

    def serializer(self) -> BaseSerializer:
        return self.serializer_class()  # type: ignore[no-any-return]

    def compile_links(self, inclusion: Inclusion) -> Fragment:
        """The rows of an inclusion for one record of the outer statement."""
        links = inclusion.links().filter(**{f"{inclusion.parent}_id": Parameter(PARENT)}).order_by()
        fragment = compile_nested(links, inclusion.related, inclusion.serializer())
        return substitute(fragment, PARENT, f'"{self.model._meta.db_table}"."{self.model._meta.pk.column}"')

    def values_of(self, request: HttpRequest, entry: Entry) -> dict[Placeholder, Any]:
        return {
            CALLER: entry.caller,
            OWNER: entry.owner.pk,
            BASIS: basis_of(entry),
            PRINCIPAL: principal_of(entry),
            REQUEST_ID: request.request_id,  # type: ignore[attr-defined]
            TODAY: timezone.localdate(None, timezone.get_default_timezone()),  # faster than the current one, its equal
        }

    def respond(self, request: HttpRequest, kwargs: dict[str, Any]) -> HttpResponse | None:
        meta = request.META
        if "HTTP_IF_MATCH" in meta or "HTTP_X_CHANGE_REASON" in meta or self.is_observed():
            return None
        if "GET" in vars(request) and parse_query(meta["QUERY_STRING"], request.encoding) != request.GET:
            return None  # middleware has replaced the parameters
        try:
            tags = read_tags(meta, "If-None-Match") if "HTTP_IF_NONE_MATCH" in meta else set()
            key = self.cache_key(request, kwargs)
            cached = public_cache.answers.get(key) if key else None
            parameters = cached.parsed_request if cached else self.read_parameters(request, kwargs)
        except (APIException, SuspiciousOperation, NotExpressibleError, UnsupportedError):
            return None
        except Exception as error:  # a filter that needs more than it has here, say; nothing has been sent
            self.log_failure(error)
            return None
        try:
            entry = self.enter(request)
        except (NotAuthenticated, AuthenticationFailed) as error:
            return self.respond_unauthenticated(request, error)
        except (APIException, NotExpressibleError):  # X-Acting-For
            return None
        self.set_user(request, entry)
        try:
            if key:
                response = self.respond_from_cache(request, entry, parameters, key)
            else:
                response = self.execute_read(request, entry, parameters, [])[0]
        except NotExpressibleError:
            return None
        except Error as error:
            # Standard DRF finds out what it is, and connects again if it must.
            if waiting_is_futile(error):
                return self.respond_unavailable(request)
            self.log_defect(error)
            return None
        if response is not None and tags and response.status_code == 200 and self.is_held(response, tags):
            # RFC 9110 section 8.6: the length that the whole answer has.
            headers = {**response.headers, "Content-Length": str(len(response.body))}
            return self.response_class(b"", status=304, headers=headers)
        return response

    def cache_key(self, request: HttpRequest, kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
        """All that a public answer depends on, None for one that is not cached. Middleware may have chosen another view
        than the path names.

        Inside a transaction nothing is cached: it sees changes that are not committed.
        """
        if not self.cached_table or connection.in_atomic_block:
            return None
        place = str(request.scheme), request.get_host(), request.path, request.META["QUERY_STRING"]
        return *place, self, *kwargs.values()

    def respond_from_cache(
        self, request: HttpRequest, entry: Entry, parameters: Any, key: tuple[Any, ...]
    ) -> FastResponse | None:
        """The cached answer if the table has not changed since, otherwise the current one, which is then cached."""
        if self.is_cacheable(parameters):
            try:
                return self.respond_by_version(request, entry, parameters, key)
            except Error as error:
                if not isinstance(error.__cause__, LockNotAvailable):
                    raise  # else the table of versions is locked
        return self.execute_read(request, entry, parameters, [])[0]

    def is_cacheable(self, parameters: Any) -> bool:
        """Whether the answer depends on the table alone. A filter may depend on the clock."""
        return parameters.filtered is None

    def respond_by_version(
        self, request: HttpRequest, entry: Entry, parameters: Any, key: tuple[Any, ...]
    ) -> FastResponse | None:
        table, cached = str(self.cached_table), public_cache.answers.get(key)
        today = timezone.localdate(None, timezone.get_default_timezone())
        if cached is not None and cached.day == today:
            session = [Statement(entry.sql, entry.parameters, plannable=True)] if entry.caller else []
            caller, version = execute([*session, *public_cache.version_statements(table)])[0]
            if entry.caller and caller != str(entry.caller):
                return self.respond_session_ended(request)
            if version == cached.version:
                return self.respond_with_json(cached.content, headers=cached.headers)
        response, version = self.execute_read(request, entry, parameters, public_cache.store_version(table))
        if response is not None and response.status_code == 200 and version:
            headers = {name: value for name, value in response.items() if name in CACHED_HEADERS}
            public_cache.answers.put(key, public_cache.CachedAnswer(version, today, response.body, headers, parameters))
        return response

    def compile_for(self, parameters: Any) -> CompiledRead:
        """The statement for what a request asks for. May raise anything."""
        raise NotImplementedError

    def compiled(self, parameters: Any) -> CompiledRead:
        """The same; NotExpressibleError for what cannot be compiled, before anything is sent."""
        try:
            return self.compile_for(parameters)
        except (EmptyResultSet, FullResultSet, NotExpressibleError) as error:
            raise NotExpressibleError from error
        except Exception as error:
            self.log_failure(error)
            raise NotExpressibleError from error

    def read_parameters(self, request: HttpRequest, kwargs: dict[str, Any]) -> Any:
        """The parsed request. Any exception sends the request to standard DRF."""
        raise NotImplementedError

    def execute_read(
        self, request: HttpRequest, entry: Entry, parameters: Any, before: list[Statement]
    ) -> tuple[FastResponse | None, str | None]:
        """The answer, and the version of the cached table if `before` has stored it."""
        raise NotImplementedError

    def is_held(self, response: HttpResponse, tags: set[str]) -> bool:
        """Whether the client already has the current record. A list has no entity tag."""
        return "ETag" in response.headers and matches(response.headers["ETag"], tags)

    def read_selection(self, parameters: Mapping[str, str]) -> FieldSelection:
        if not self.selects or parameters.keys().isdisjoint(PARAMETERS):
            return WHOLE_RECORD
        return FieldSelection.of(parameters, self.field_names, set(self.inclusions))

    @cached_property
    def field_names(self) -> set[str]:
        fields: Mapping[str, Any] = self.serializer().fields  # type: ignore[attr-defined]
        return set(fields)


def inclusion_links(inclusion: Inclusion, _: Any) -> QuerySet:
    return inclusion.links()


def compile_nested(links: QuerySet, related: str, serializer: BaseSerializer) -> Fragment:
    """Association rows as `key` and `content`, the JSON of the related record with the association's id."""
    meta = links.model._meta
    name = meta.model_name or ""
    content = record_as_json(serializer, columns=[(name, f'"{meta.db_table}"."{meta.pk.column}"')])
    return compile_rows(links.values(key=F("pk"), joined=F(f"{related}__created_at"), content=raw_sql(content)))


def parse_query(query: str, encoding: str | None) -> QueryDict:
    """The parameters of `QUERY_STRING`, as in `WSGIRequest.GET`."""
    return QueryDict(query.encode("latin-1"), encoding=encoding)


def read_query(query: QueryDict, known: Set[str]) -> Mapping[str, str]:
    """The query parameters. Raises NotExpressibleError if one is unknown or repeated."""
    if not query.keys() <= known or any(len(values) != 1 for _, values in query.lists()):
        raise NotExpressibleError
    return {name: str(query[name]) for name in query}
