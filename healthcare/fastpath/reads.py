"""The fast GET of a record, of a list, and of a list nested in another record."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from threading import local
from typing import Any

from django.conf import settings
from django.core.exceptions import EmptyResultSet, SuspiciousOperation
from django.core.exceptions import ValidationError as InvalidValueError
from django.db import Error, connection
from django.db.models import BooleanField, Exists, F, Model, QuerySet
from django.db.models.expressions import RawSQL
from django.db.models.sql.where import AND
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.functional import cached_property
from rest_framework.exceptions import APIException, AuthenticationFailed, NotAuthenticated
from rest_framework.serializers import BaseSerializer

from healthcare.api.conditional_requests import ENTITY_TAG_DIGITS, entity_tag, entity_tag_key, matches, read_tags
from healthcare.api.cursors import Cursor, Keyset
from healthcare.api.filters import IdFilter
from healthcare.api.pagination import link_header, read_limit, read_ordering
from healthcare.api.sparse_fieldsets import FieldSelection, Inclusion
from healthcare.fastpath import public_cache
from healthcare.fastpath.actions import (
    FastAction,
    NotExpressibleError,
    encode_json,
    entry_statements,
    obstacles_of_scope,
    refuse_query,
)
from healthcare.fastpath.eligibility import Obstacle, obstacles_of_filterset, obstacles_of_serializer
from healthcare.fastpath.execution import Statement, execute, has_timed_out
from healthcare.fastpath.json_sql import Fragment, UnsupportedError, included_as_json, record_as_json, substitute
from healthcare.fastpath.placeholders import (
    CALLER,
    CALLER_TEXT,
    ENTITY_TAGS,
    KEY,
    PARENT,
    REQUEST_ID,
    TODAY,
    Parameter,
    Placeholder,
    fill,
)
from healthcare.model_fields import LARGEST_ID
from healthcare.rls.context import Entry

# The limits whose statements are planned once: what clients ask for most, as many as a session keeps.
PLANNED_LIMITS = {1, 10, 20, 50, 100}
IS_CALLER = Fragment("current_setting('app.user_id', true) = %s", (CALLER_TEXT,))
CONDITIONS = Placeholder("conditions")  # of filters
CURSOR = tuple(Placeholder(f"cursor {position}") for position in range(2))
WHOLE_RECORD = FieldSelection()
INNER_PAD, OUTER_PAD, BLOCK = 0x36, 0x5C, 64  # of HMAC-SHA256 (RFC 2104)


class InaccessibleRequest:
    """Replaces the request in filters. A filter that reads an attribute of it sends the request to standard DRF."""

    def __getattr__(self, name: str) -> Any:
        raise NotExpressibleError


@dataclass(frozen=True)
class CompiledRead:
    """A statement with its placeholders. `plannable` and `rare` are those of `execution.Statement`."""

    fragment: Fragment
    plannable: bool
    rare: bool = False

    def statement(self, values: Mapping[Placeholder, Any]) -> Statement:
        return Statement(self.fragment.sql, fill(self.fragment.parameters, values), self.plannable, self.rare)


class FastRead(FastAction):
    """The base class of the reads of a record and of a list."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.cached_table = self.model._meta.db_table if self.viewset.cached_by_table_version else None
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
            if type(getattr(inclusion.field(), "child", None)) is not inclusion.serializer:
                yield Obstacle(f"{member}.field", "It has to be a list of the inclusion's serializer.")
            yield from obstacles_of_serializer(inclusion.serializer)
            yield from obstacles_of_scope(f"{member}.links", partial(links_of, inclusion))
            self.content(FieldSelection(included=frozenset({name})))
        if self.cached_table and self.recording:
            yield Obstacle(f"{self.viewset.__name__}.cached_by_table_version", "A cached answer records no access.")
        if self.cached_table and TODAY in self.content(WHOLE_RECORD).parameters:
            yield Obstacle(
                f"{self.viewset.__name__}.cached_by_table_version", "A cached answer cannot depend on the day."
            )

    def compile_content(self, selection: FieldSelection) -> Fragment:
        included = [
            (name, included_as_json(self.compile_links(self.inclusions[name]))) for name in self.inclusions
            if name in selection.included
        ]  # fmt: skip
        return record_as_json(self.serializer(), only=selection.fields, inclusions=included)

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
            CALLER_TEXT: str(entry.caller or ""),
            REQUEST_ID: request.request_id,  # type: ignore[attr-defined]
            TODAY: timezone.localdate(),
        }

    def respond(self, request: HttpRequest, kwargs: dict[str, Any]) -> HttpResponse | None:
        meta = request.META
        if "HTTP_IF_MATCH" in meta or "HTTP_X_CHANGE_REASON" in meta or self.is_observed():
            return None
        try:
            tags = read_tags(meta, "If-None-Match") if "HTTP_IF_NONE_MATCH" in meta else set()
            cached = self.find_cached_answer(request)
            asked = cached.parsed_request if cached else self.read_parameters(request, kwargs)
        except (APIException, SuspiciousOperation, NotExpressibleError, UnsupportedError):
            return None
        except Exception as error:  # a filter that needs more than it has here, say; nothing has been sent
            self.log_failure(error)
            return None
        try:
            entry = self.enter(request)
        except (NotAuthenticated, AuthenticationFailed) as error:
            return self.respond_unauthenticated(request, error)
        self.set_user(request, entry.caller)
        try:
            response = self.respond_from_cache(request, entry, asked, cached)
        except NotExpressibleError:
            return None
        except Error as error:
            # Standard DRF finds out what it is, and connects again if it must. It would only wait as long once more.
            if has_timed_out(error):
                return self.respond_unavailable(request)
            self.log_defect(error)
            return None
        if response is not None and tags and response.status_code == 200 and is_held(response, tags):
            # RFC 9110 section 8.6: the length that the whole answer has.
            not_modified = HttpResponse(status=304, headers={**response.headers})
            not_modified.headers["Content-Length"] = str(len(response.content))
            del not_modified.headers["Content-Type"]
            return not_modified
        return response

    def find_cached_answer(self, request: HttpRequest) -> public_cache.CachedAnswer | None:
        """Inside a transaction nothing is cached: it sees changes that are not committed."""
        if not self.cached_table or connection.in_atomic_block:
            return None
        return public_cache.answers.get(cache_key(request))

    def respond_from_cache(
        self, request: HttpRequest, entry: Entry, asked: Any, cached: public_cache.CachedAnswer | None
    ) -> HttpResponse | None:
        """The cached answer if the table has not changed since, otherwise the current one, which is then cached.

        A filter may depend on the clock, so a filtered list is not cached.
        """
        if not self.cached_table or connection.in_atomic_block or asked.filtered is not None:
            return self.execute_read(request, entry, asked, [])[0]
        try:
            return self.respond_by_version(request, entry, asked, cached)
        except Error as error:
            if not has_timed_out(error):
                raise
            return self.execute_read(request, entry, asked, [])[0]  # the table of versions is locked

    def respond_by_version(
        self, request: HttpRequest, entry: Entry, asked: Any, cached: public_cache.CachedAnswer | None
    ) -> HttpResponse | None:
        table = str(self.cached_table)
        if cached is not None:
            session = [Statement(entry.sql, entry.parameters, plannable=True)] if entry.caller else []
            caller, version = execute([*session, *public_cache.version_statements(table)])[0]
            if entry.caller and caller != str(entry.caller):
                return self.respond_session_ended(request)
            if version == cached.version:
                return self.respond_with_json(cached.content, headers=cached.headers)
        response, version = self.execute_read(request, entry, asked, public_cache.store_version(table))
        if response is not None and response.status_code == 200 and version:
            headers = {name: value for name, value in response.items() if name in {"ETag", "Link"}}
            answer = public_cache.CachedAnswer(version, response.content, headers, asked)
            public_cache.answers.put(cache_key(request), answer)
        return response

    def compile_for(self, asked: Any) -> CompiledRead:
        """The statement for what a request asks for. May raise anything."""
        raise NotImplementedError

    def compiled(self, asked: Any) -> CompiledRead:
        """The same; NotExpressibleError for what cannot be compiled, before anything is sent."""
        try:
            return self.compile_for(asked)
        except (EmptyResultSet, NotExpressibleError) as error:
            raise NotExpressibleError from error
        except Exception as error:
            self.log_failure(error)
            raise NotExpressibleError from error

    def respond_session_ended(self, request: HttpRequest) -> HttpResponse:
        return self.respond_unauthenticated(request, self.authentication.session_ended())

    def read_parameters(self, request: HttpRequest, kwargs: dict[str, Any]) -> Any:
        """The parsed request. Any exception sends the request to standard DRF."""
        raise NotImplementedError

    def execute_read(
        self, request: HttpRequest, entry: Entry, asked: Any, before: list[Statement]
    ) -> tuple[HttpResponse | None, str | None]:
        """The answer, and the version of the cached table if `before` has stored it."""
        raise NotImplementedError

    def read_selection(self, parameters: Mapping[str, str]) -> FieldSelection:
        if not self.selects or parameters.keys().isdisjoint({"fields", "include"}):
            return WHOLE_RECORD
        return FieldSelection.of(parameters, self.field_names, set(self.inclusions))

    @cached_property
    def field_names(self) -> set[str]:
        fields: Mapping[str, Any] = self.serializer().fields  # type: ignore[attr-defined]
        return set(fields)


@dataclass(frozen=True)
class RecordRequest:
    """`tags` are those of If-None-Match. A record has no filters."""

    key: int
    selection: FieldSelection
    tags: frozenset[str] = frozenset()
    filtered: None = None


class FastRetrieve(FastRead):
    """`GET /…/<id>/`: 200, 304, 401, and 404 unless the record may have a successor."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.compile = lru_cache(maxsize=64)(self.compile_record)

    def obstacles_of_statements(self) -> Iterator[Obstacle]:
        yield from super().obstacles_of_statements()
        self.compile(WHOLE_RECORD)
        if "retrieve" in self.viewset.successor_actions and not self.viewset.successor_field:
            yield Obstacle(f"{self.viewset.__name__}.successor_field", "Name the foreign key to the successor.")

    def compile_record(self, selection: FieldSelection, conditional: bool = False) -> CompiledRead:
        """With `conditional` the access is recorded as a 304 where the client has the record already."""
        subject = {"subject": F(self.recording.column)} if self.recording else {}
        content = self.content(selection)
        rows = self.rows().filter(pk=Parameter(KEY)).order_by()
        page = compile_rows(rows.values(key=F("pk"), content=raw_sql(content), **subject))
        successor = self.compile_successor()
        recorded = Fragment("")
        if self.recording:
            found = Fragment("CASE WHEN EXISTS (SELECT FROM page) THEN 200 ELSE 404 END")
            if conditional:
                tag = entity_tag_of("content")
                held = f"EXISTS (SELECT FROM page WHERE ARRAY['*', {tag.sql}] && %s::text[])"
                found = Fragment(f"CASE WHEN {held} THEN 304 ELSE {found.sql} END", (*tag.parameters, ENTITY_TAGS))
            replaced = Fragment(f" AND NOT {successor.sql}", successor.parameters) if successor.sql else Fragment("")
            condition = Fragment(IS_CALLER.sql + replaced.sql, IS_CALLER.parameters + replaced.parameters)
            ids = Fragment("(SELECT coalesce(array_agg(subject), '{}') FROM page)")
            if self.recording.path_names_subject:
                ids = Fragment("ARRAY[%s]::bigint[]", (KEY,))
            insert = self.recording.fragment(ids, found, condition)
            recorded = Fragment(f",\nrecorded AS ({insert.sql})", insert.parameters)
        return compile_result(page, recorded, successor, Fragment(""), plannable=True, rare=selection != WHOLE_RECORD)

    def compile_successor(self) -> Fragment:
        """SQL that tells whether a missing row has been replaced by another; empty without a `successor_field`."""
        if not self.viewset.successor_field:
            return Fragment("")
        table, meta = self.model._meta.db_table, self.model._meta
        column = meta.get_field(self.viewset.successor_field).column
        sql = (
            f'(NOT EXISTS (SELECT FROM page) AND EXISTS (SELECT FROM "{table}" '  # noqa: S608
            f'WHERE "{meta.pk.column}" = %s AND "{column}" IS NOT NULL))'
        )
        return Fragment(sql, (KEY,))

    def compile_for(self, asked: RecordRequest) -> CompiledRead:
        return self.compile(asked.selection, bool(asked.tags))

    def read_parameters(self, request: HttpRequest, kwargs: dict[str, Any]) -> RecordRequest:
        key = next(iter(kwargs.values()))
        parameters = read_query(request, {"fields", "include"} if self.selects else set())
        if not 0 < key <= LARGEST_ID:
            raise NotExpressibleError
        recorded = self.recording is not None and "HTTP_IF_NONE_MATCH" in request.META
        tags = frozenset(read_tags(request.META, "If-None-Match") if recorded else ())
        return RecordRequest(key, self.read_selection(parameters), tags)

    def execute_read(
        self, request: HttpRequest, entry: Entry, asked: RecordRequest, before: list[Statement]
    ) -> tuple[HttpResponse | None, str | None]:
        values = self.values_of(request, entry) | {KEY: asked.key}
        values[ENTITY_TAGS] = [tag.removeprefix("W/") for tag in asked.tags]  # they are compared weakly
        statement = self.compiled(asked).statement(values)
        caller, version, has_successor, key, content = execute([*before, *entry_statements(entry), statement])[0]
        if caller != values[CALLER_TEXT]:
            return self.respond_session_ended(request), None
        if has_successor:
            return None, None
        if key is None:
            return self.respond_with_problem(request, 404), None
        body = encode_json(content)
        return self.respond_with_json(body, headers={"ETag": entity_tag(body)}), version


@dataclass(frozen=True)
class Filterable:
    """A statement with a place for the conditions of filters: the SQL and the parameters before and after it."""

    before: Fragment
    after: Fragment

    @classmethod
    def of(cls, fragment: Fragment) -> "Filterable":
        position = fragment.parameters.index(CONDITIONS)
        pieces = fragment.sql.split("%s")
        before, after = "%s".join(pieces[: position + 1]), "%s".join(pieces[position + 1 :])
        return cls(
            Fragment(before, fragment.parameters[:position]), Fragment(after, fragment.parameters[position + 1 :])
        )

    def with_conditions(self, conditions: Fragment) -> Fragment:
        sql = f"{self.before.sql}{conditions.sql}{self.after.sql}"
        return Fragment(sql, self.before.parameters + conditions.parameters + self.after.parameters)


@dataclass(frozen=True)
class ListRequest:
    """`filtered` are the rows after the filters, None without any. `parent` is the id in the path of a nested list."""

    limit: int
    ordering: str | None
    cursor: Cursor | None
    selection: FieldSelection
    filtered: QuerySet | None = None
    names_record: bool = False  # whether a filter names another record by its id
    parent: int | None = None


class FastList(FastRead):
    """`GET /…/` with limit, cursor, ordering, fields, include and the filters of the viewset: 200 and 401."""

    planner_settings: Sequence[Statement] = ()  # for plans that `rls.context.PLANNED_ONCE` rules out
    path_arguments = frozenset()

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.compile = lru_cache(maxsize=256)(self.compile_list)
        self.compile_filterable = lru_cache(maxsize=256)(self.compile_with_place)
        self.thread = local()
        filterset = getattr(self.viewset, "filterset_class", None)
        self.filterset_class: Any = self.options.get("filterset_class", filterset)
        self.filter_names = set(self.filterset_class.base_filters) if self.filterset_class else set()
        self.orderings = self.viewset.ordering_fields
        self.known_parameters = {"limit", "cursor"} | self.filter_names
        self.known_parameters |= {"ordering"} if self.orderings else set()
        self.known_parameters |= {"fields", "include"} if self.selects else set()

    def obstacles_of_statements(self) -> Iterator[Obstacle]:
        yield from super().obstacles_of_statements()
        if self.filterset_class:
            yield from obstacles_of_filterset(self.filterset_class)
            for name, one in self.filterset_class.base_filters.items():
                if isinstance(one, IdFilter):
                    yield from obstacles_of_scope(f"{self.filterset_class.__name__}.{name}", one.scope)
        self.compile(20, None, None, WHOLE_RECORD)

    def rows_of_list(self) -> QuerySet:
        return self.rows()

    @cached_property
    def unfiltered(self) -> QuerySet:
        """The rows that filters start from. Never evaluated, and copied by each filter."""
        return self.rows_of_list()

    def compile_list(
        self, limit: int, ordering: str | None, back: bool | None, selection: FieldSelection
    ) -> CompiledRead:
        """`back` is None on the first page, otherwise whether the page lies before the cursor."""
        return self.compile_page(self.rows_of_list(), limit, ordering, back, selection, plannable=True)

    def compile_page(
        self, rows: QuerySet, limit: int, ordering: str | None, back: bool | None, selection: FieldSelection, *,
        plannable: bool, needs_rows: bool = False,
    ) -> CompiledRead:  # fmt: skip
        columns = [*([ordering.lstrip("-")] if ordering else []), "pk"]
        downwards = (ordering is None or ordering.startswith("-")) != bool(back)
        values: dict[str, Any] = {"key": F("pk"), **self.content_values(selection)}
        if self.recording:
            values["subject"] = F(self.recording.column)
        if ordering:
            values["position"] = F(columns[0])
        rows = rows.order_by(*(f"-{column}" if downwards else column for column in columns))
        if back is not None:
            rows = rows.filter(self.beyond_cursor(columns, downwards))
        page = compile_rows(rows.values(**values))
        direction = "DESC" if downwards else "ASC"
        order = Fragment(f"ORDER BY {f'position {direction}, ' if ordering else ''}key {direction}")
        page = Fragment(f"{page.sql} LIMIT {limit + 1}", page.parameters)
        recorded = Fragment("")
        if self.recording:
            accessed = f"(SELECT subject FROM page {order.sql} LIMIT {limit})"  # noqa: S608
            ids = f"(SELECT coalesce(array_agg(DISTINCT subject ORDER BY subject), '{{}}') FROM {accessed} AS accessed)"  # noqa: S608
            insert = self.record_list(Fragment(ids), Fragment(" AND EXISTS (SELECT FROM page)" if needs_rows else ""))
            recorded = Fragment(f",\nrecorded AS ({insert.sql})", insert.parameters)
        rare = selection != WHOLE_RECORD or ordering is not None or needs_rows
        return compile_result(
            page, recorded, self.compile_existence(), order, plannable=plannable and limit in PLANNED_LIMITS, rare=rare
        )

    def content_values(self, selection: FieldSelection) -> dict[str, Any]:
        return {"content": raw_sql(self.content(selection))}

    def record_list(self, ids: Fragment, condition: Fragment) -> Fragment:
        """The INSERT that records the access to these ids, if the caller's session is live and the condition holds."""
        condition = Fragment(IS_CALLER.sql + condition.sql, IS_CALLER.parameters + condition.parameters)
        return self.recording.fragment(ids, Fragment("200"), condition)  # type: ignore[union-attr]

    def compile_existence(self) -> Fragment:
        """SQL that is false if the list does not exist (404); empty if it always exists."""
        return Fragment("")

    def beyond_cursor(self, columns: Sequence[str], downwards: bool) -> Any:
        fields = [self.model._meta.pk if name == "pk" else self.model._meta.get_field(name) for name in columns]
        table, sign = self.model._meta.db_table, "<" if downwards else ">"
        left = ", ".join(f'"{table}"."{field.column}"' for field in fields)
        right = ", ".join(f"%s::{field.rel_db_type(connection)}" for field in fields)
        # One comparison of rows, which an index on these columns serves.
        return RawSQL(f"({left}) {sign} ({right})", CURSOR[: len(columns)], BooleanField())  # noqa: S611

    def read_parameters(self, request: HttpRequest, kwargs: dict[str, Any]) -> ListRequest:
        parameters = read_query(request, self.known_parameters)
        ordering = read_ordering(parameters, self.orderings) if self.orderings else None
        columns = [*([ordering.lstrip("-")] if ordering else []), "pk"]
        cursor = self.read_cursor(parameters.get("cursor"), columns)
        filtered, names_record = None, False
        if not self.filter_names.isdisjoint(parameters):
            filtered, names_record = self.filter(request)
        return ListRequest(
            read_limit(parameters), ordering, cursor, self.read_selection(parameters), filtered, names_record,
            self.parent_of(kwargs),
        )  # fmt: skip

    def read_cursor(self, text: str | None, columns: list[str]) -> Cursor | None:
        if text is None:
            return None
        return Keyset(self.model._default_manager.none(), columns, descending=True).read(text)

    def parent_of(self, kwargs: dict[str, Any]) -> int | None:
        return None

    def filter(self, request: HttpRequest) -> tuple[QuerySet, bool]:
        """The rows that the filters leave, and whether a filter names another record by its id.

        Such a record is looked for in the same statement. Without it no row is left.
        """
        filterset, rows, names_record = self.filterset, self.unfiltered, False
        with connection.execute_wrapper(refuse_query):
            for name, one in filterset.filters.items():
                if name not in request.GET:
                    continue
                text = one.field.widget.value_from_datadict(request.GET, {}, name)
                if not isinstance(text, str) or not text.strip():
                    raise NotExpressibleError
                try:
                    value = one.field.clean(text)
                except InvalidValueError as error:
                    raise NotExpressibleError from error
                rows = one.filter(rows, value)
                if isinstance(one, IdFilter):
                    rows, names_record = rows.filter(Exists(one.scope(Parameter(CALLER)).filter(pk=value))), True
        return rows, names_record

    @property
    def filterset(self) -> Any:
        """A filter set of this thread with every filter: what one request leaves in it, the next one overwrites."""
        filterset = getattr(self.thread, "filterset", None)
        if filterset is None:
            everything = dict.fromkeys(self.filter_names, "")
            filterset = self.filterset_class(everything, self.unfiltered, request=InaccessibleRequest())
            for one in filterset.filters.values():
                if isinstance(one, IdFilter):
                    vars(one.field)["checked_in_statement"] = True
            self.thread.filterset = filterset
        return filterset

    def compile_for(self, asked: ListRequest) -> CompiledRead:
        if asked.filtered is not None:
            return self.compile_filtered(asked, asked.filtered)
        return self.compile(asked.limit, asked.ordering, asked.cursor.back if asked.cursor else None, asked.selection)

    def compile_filtered(self, asked: ListRequest, rows: QuerySet) -> CompiledRead:
        """The statement of a filtered page. Only the conditions are compiled, unless the filters join other tables."""
        back = asked.cursor.back if asked.cursor else None
        conditions = self.added_conditions(rows)
        if conditions is None:
            return self.compile_page(
                rows, asked.limit, asked.ordering, back, asked.selection,
                plannable=False, needs_rows=asked.names_record,
            )  # fmt: skip
        page = self.compile_filterable(asked.limit, asked.ordering, back, asked.selection, asked.names_record)
        return CompiledRead(page.with_conditions(conditions), asked.limit in PLANNED_LIMITS, rare=True)

    def added_conditions(self, rows: QuerySet) -> Fragment | None:
        """The conditions that filters have added to the unfiltered rows; None if they have added anything else."""
        before, after = self.unfiltered.query, rows.query
        if after.where.children[: len(before.where.children)] != before.where.children or after.combinator:
            return None  # other rows than those that the filter was given
        simple = after.where.connector == AND and not after.where.negated and not after.distinct
        if not simple or after.alias_map.keys() != before.alias_map.keys() or after.annotations or after.is_sliced:
            return None
        compiler = after.get_compiler(connection=connection)
        compiled = [compiler.compile(node) for node in after.where.children[len(before.where.children) :]]
        parameters = tuple(parameter for _, each in compiled for parameter in each)
        return Fragment(" AND ".join(f"({sql})" for sql, _ in compiled) or "true", parameters)

    def compile_with_place(
        self, limit: int, ordering: str | None, back: bool | None, selection: FieldSelection, needs_rows: bool
    ) -> "Filterable":
        place = RawSQL("%s", [CONDITIONS], BooleanField())
        page = self.compile_page(
            self.unfiltered.filter(place), limit, ordering, back, selection, plannable=False, needs_rows=needs_rows
        )
        return Filterable.of(page.fragment)

    def execute_read(
        self, request: HttpRequest, entry: Entry, asked: ListRequest, before: list[Statement]
    ) -> tuple[HttpResponse | None, str | None]:
        cursor, back = asked.cursor, asked.cursor.back if asked.cursor else None
        values = self.values_of(request, entry) | {KEY: asked.parent}
        values |= dict(zip(CURSOR, cursor.values if cursor else (), strict=False))
        statement = self.compiled(asked).statement(values)
        rows = execute([*before, *entry_statements(entry), *self.planner_settings, statement])
        caller, version, exists, first_key, *_ = rows[0]
        if caller != values[CALLER_TEXT]:
            return self.respond_session_ended(request), None
        if exists is False or (first_key is None and asked.names_record):
            # There is no such parent, or a filter may name what is not there. Nothing has been recorded.
            return None, None
        page = [] if first_key is None else rows[: asked.limit]
        if back:
            page = page[::-1]
        headers = self.page_links(request, asked, page, more=len(rows) > asked.limit)
        body = encode_json(f"[{','.join(row[4] for row in page)}]")
        return self.respond_with_json(body, headers=headers), version

    def page_links(self, request: HttpRequest, asked: ListRequest, page: list[Any], *, more: bool) -> dict[str, str]:
        if not page:
            return {}
        before, after = (
            Cursor((*([cursor_value(row[5])] if asked.ordering else []), row[3]), back)
            for row, back in ((page[0], True), (page[-1], False))
        )
        return link_header(request, asked.cursor, before, after, more=more)


class FastNestedList(FastList):
    """`GET /…/<id>/…/`: the records that association rows link to the one in the path, each with the row's id."""

    path_arguments = frozenset({"pk"})

    @cached_property
    def models(self) -> list[type[Model]]:
        return [self.model, self.model._meta.get_field(self.viewset.related).related_model]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.parent, self.related = self.viewset.parent, self.viewset.related

    def obstacles_of_statements(self) -> Iterator[Obstacle]:
        yield from super().obstacles_of_statements()
        yield from obstacles_of_scope(f"{self.viewset.__name__}.parent_scope", self.viewset.parent_scope)

    def rows_of_list(self) -> QuerySet:
        parents = self.viewset.parent_scope(Parameter(CALLER)).filter(pk=Parameter(KEY))
        return self.rows().filter(**{f"{self.parent}_id": Parameter(KEY), f"{self.parent}__in": parents})

    def compile_existence(self) -> Fragment:
        parents = self.viewset.parent_scope(Parameter(CALLER)).filter(pk=Parameter(KEY)).order_by().values("pk")
        fragment = compile_rows(parents)
        return Fragment(f"EXISTS ({fragment.sql})", fragment.parameters)

    def record_list(self, ids: Fragment, condition: Fragment) -> Fragment:
        exists = self.compile_existence()
        if self.recording and self.recording.path_names_subject:
            ids = Fragment("ARRAY[%s]::bigint[]", (KEY,))
        condition = Fragment(f"{condition.sql} AND {exists.sql}", condition.parameters + exists.parameters)
        return super().record_list(ids, condition)

    def compile_content(self, selection: FieldSelection) -> Fragment:
        table, key = self.model._meta.db_table, self.model._meta.pk.column
        return record_as_json(self.serializer(), columns=[(self.viewset.association_id_field, f'"{table}"."{key}"')])

    def content_values(self, selection: FieldSelection) -> dict[str, Any]:
        # Any column of the related record joins its table.
        return {"joined": F(f"{self.related}__created_at"), **super().content_values(selection)}

    def parent_of(self, kwargs: dict[str, Any]) -> int:
        key = int(next(iter(kwargs.values())))
        if not 0 < key <= LARGEST_ID:
            raise NotExpressibleError
        return key


class FastRecordList(FastList):
    """`GET /…/<id>/<action>/`: rows of another table about the record in the path, the latest first."""

    path_arguments = frozenset({"pk"})

    def target(self) -> QuerySet:
        """The record in the path, as a queryset."""
        return self.rows().filter(pk=Parameter(KEY)).order_by()

    def compile_rows_of_record(self, condition: str) -> Fragment:
        """The rows about the record `KEY` as `key` and `content`, in no order. The SQL condition is about `key`."""
        raise NotImplementedError

    def obstacles_of_statements(self) -> Iterator[Obstacle]:
        yield from self.obstacles_of_scopes()
        self.compile(20, None, None, WHOLE_RECORD)

    def compile_list(
        self, limit: int, ordering: str | None, back: bool | None, selection: FieldSelection
    ) -> CompiledRead:
        subject = {"subject": F(self.recording.column)} if self.recording else {}
        target = compile_rows(self.target().values(found=F("pk"), **subject))
        rows = self.compile_rows_of_record("" if back is None else "key < %s::bigint")
        order = Fragment("ORDER BY key DESC")
        cursor = () if back is None else (CURSOR[0],)
        page = Fragment(f"{rows.sql} {order.sql} LIMIT {limit + 1}", (*rows.parameters, *cursor))
        recorded = Fragment("")
        if self.recording:
            ids = Fragment("(SELECT coalesce(array_agg(subject), '{}') FROM target)")
            insert = self.record_list(ids, Fragment(" AND EXISTS (SELECT FROM target)"))
            recorded = Fragment(f",\nrecorded AS ({insert.sql})", insert.parameters)
        exists = Fragment("EXISTS (SELECT FROM target)")
        compiled = compile_result(page, recorded, exists, order, plannable=limit in PLANNED_LIMITS)
        sql = compiled.fragment.sql.replace("WITH page", f"WITH target AS MATERIALIZED ({target.sql}),\npage", 1)
        return CompiledRead(Fragment(sql, target.parameters + compiled.fragment.parameters), compiled.plannable)

    def read_parameters(self, request: HttpRequest, kwargs: dict[str, Any]) -> ListRequest:
        parameters = read_query(request, {"limit", "cursor"})
        cursor = self.read_cursor(parameters.get("cursor"), ["pk"])
        key = int(next(iter(kwargs.values())))
        if (cursor and cursor.back) or not 0 < key <= LARGEST_ID:
            raise NotExpressibleError
        return ListRequest(read_limit(parameters), None, cursor, WHOLE_RECORD, parent=key)


def links_of(inclusion: Inclusion, _: Any) -> QuerySet:
    return inclusion.links()


def compile_nested(links: QuerySet, related: str, serializer: BaseSerializer) -> Fragment:
    """Association rows as `key` and `content`, the JSON of the related record with the association's id."""
    meta = links.model._meta
    name = meta.model_name or ""
    content = record_as_json(serializer, columns=[(name, f'"{meta.db_table}"."{meta.pk.column}"')])
    return compile_rows(links.values(key=F("pk"), joined=F(f"{related}__created_at"), content=raw_sql(content)))


def compile_rows(rows: QuerySet) -> Fragment:
    """Raises EmptyResultSet for a condition that no row can meet."""
    sql, parameters = rows.query.get_compiler(connection=connection).as_sql()
    return Fragment(sql, tuple(parameters))


def raw_sql(fragment: Fragment) -> RawSQL:
    return RawSQL(fragment.sql, list(fragment.parameters))  # noqa: S611  (compiled from the models)


def compile_result(
    page: Fragment, recorded: Fragment, flag: Fragment, order: Fragment, *, plannable: bool, rare: bool = False
) -> CompiledRead:
    """At least one row: the session's user, the version of the cached table, a flag, then what the page's row holds."""
    flag_sql = flag.sql or "NULL::boolean"
    position = ", page.position" if "position" in order.sql else ""
    sql = (
        f"WITH page AS MATERIALIZED ({page.sql}){recorded.sql}\n"  # noqa: S608
        "SELECT current_setting('app.user_id', true), nullif(current_setting('fastpath.table_version', true), ''), "
        f"{flag_sql}, page.key, page.content{position} FROM (VALUES (1)) AS one LEFT JOIN page ON true {order.sql}"
    )
    parameters = (*page.parameters, *recorded.parameters, *flag.parameters, *order.parameters)
    return CompiledRead(Fragment(sql, parameters), plannable, rare)


def cache_key(request: HttpRequest) -> tuple[str, ...]:
    return str(request.scheme), request.get_host(), request.path, request.META["QUERY_STRING"]


def read_query(request: HttpRequest, known: set[str]) -> Mapping[str, str]:
    """The query parameters. Raises NotExpressibleError if one is unknown or repeated."""
    if not request.META["QUERY_STRING"]:
        return {}
    lists = request.GET
    if not lists.keys() <= known or any(len(values) != 1 for _, values in lists.lists()):
        raise NotExpressibleError
    return lists.dict()


def is_held(response: HttpResponse, tags: set[str]) -> bool:
    """Whether the client already has the current record. A list has no entity tag."""
    return "ETag" in response.headers and matches(response.headers["ETag"], tags, weakly=True)


def cursor_value(value: Any) -> Any:
    """A value as in the cursors of `Keyset`."""
    return value.isoformat() if hasattr(value, "isoformat") else value


def escaped(content: str) -> str:
    """SQL that escapes the separators as `actions.encode_json` does."""
    return rf"replace(replace({content}, U&'\2028', '\u2028'), U&'\2029', '\u2029')"


def entity_tag_of(content: str) -> Fragment:
    """SQL for `conditional_requests.entity_tag`: HMAC-SHA256 (RFC 2104) with the key that is derived for entity tags.

    The `%s` of the content come after the two parameters of the fragment.
    """
    key = entity_tag_key(settings.SECRET_KEY).ljust(BLOCK, b"\0")
    inner, outer = (bytes(byte ^ pad for byte in key) for pad in (INNER_PAD, OUTER_PAD))
    body = f"convert_to({escaped(content)}, 'UTF8')"
    digest = f"encode(sha256(%s::bytea || sha256(%s::bytea || {body})), 'hex')"
    return Fragment(f"""('"' || left({digest}, {ENTITY_TAG_DIGITS}) || '"')""", (outer, inner))
