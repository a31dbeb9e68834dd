"""The fast GET of a record."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from django.db.models import F
from django.http import HttpRequest

from healthcare.api.conditional_requests import entity_tag, read_tags
from healthcare.api.sparse_fieldsets import PARAMETERS, FieldSelection
from healthcare.fastpath.actions import FastResponse, NotExpressibleError, encode_json, entry_statements
from healthcare.fastpath.eligibility import Obstacle
from healthcare.fastpath.execution import Statement, execute
from healthcare.fastpath.json_sql import Fragment
from healthcare.fastpath.placeholders import ENTITY_TAGS, KEY, Parameter
from healthcare.fastpath.reads import WHOLE_RECORD, FastRead, read_query
from healthcare.fastpath.statements import (
    IS_PRINCIPAL,
    CompiledRead,
    compile_read,
    compile_rows,
    entity_tag_of,
)
from healthcare.model_fields import LARGEST_ID
from healthcare.rls.context import Entry


class RecordParameters(NamedTuple):
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
        rows = self.rows().filter(pk=Parameter(KEY)).order_by()
        page = compile_rows(self.with_content(rows, selection, {"key": F("pk"), **subject}))
        expressions = {"page": page, **self.compile_successor()}
        has_successor = "EXISTS (SELECT FROM successor)" if "successor" in expressions else "false"
        if self.recording:
            found = Fragment("CASE WHEN EXISTS (SELECT FROM page) THEN 200 ELSE 404 END")
            if conditional:
                tag = self.entity_tag()
                held = f"EXISTS (SELECT FROM page WHERE ARRAY['*', {tag.sql}] && %s::text[])"
                found = Fragment(f"CASE WHEN {held} THEN 304 ELSE {found.sql} END", (*tag.parameters, ENTITY_TAGS))
            condition = Fragment(f"{IS_PRINCIPAL.sql} AND NOT {has_successor}", IS_PRINCIPAL.parameters)
            ids = Fragment("(SELECT coalesce(array_agg(subject), '{}') FROM page)")
            if self.recording.path_names_subject:
                ids = Fragment("ARRAY[%s]::bigint[]", (KEY,))
            expressions["recorded"] = self.recording.fragment(ids, found, condition)
        result = f"{has_successor}, page.key, {self.content_of_page()} FROM (VALUES (1)) AS one LEFT JOIN page ON true"
        return compile_read(
            expressions, Fragment(result), state=self.state, plannable=True,
            rare=selection != WHOLE_RECORD,
        )  # fmt: skip

    def entity_tag(self) -> Fragment:
        """SQL for the entity tag of a row of the page."""
        return entity_tag_of("content")

    def compile_successor(self) -> dict[str, Fragment]:
        """A row if another one has replaced the missing row; nothing to select without a `successor_field`."""
        if not self.viewset.successor_field:
            return {}
        table, meta = self.model._meta.db_table, self.model._meta
        column = meta.get_field(self.viewset.successor_field).column
        sql = (
            f'SELECT FROM "{table}" WHERE "{meta.pk.column}" = %s AND "{column}" IS NOT NULL '  # noqa: S608
            "AND NOT EXISTS (SELECT FROM page)"
        )
        return {"successor": Fragment(sql, (KEY,))}

    def compile_for(self, parameters: RecordParameters) -> CompiledRead:
        return self.compile(parameters.selection, bool(parameters.tags))

    def read_parameters(self, request: HttpRequest, kwargs: dict[str, Any]) -> RecordParameters:
        parameters: Mapping[str, str] = {}
        if request.META["QUERY_STRING"]:
            parameters = read_query(request.GET, PARAMETERS if self.selects else set())
        return self.parameters_of(request, kwargs, self.read_selection(parameters))

    def parameters_of(
        self, request: HttpRequest, kwargs: dict[str, Any], selection: FieldSelection
    ) -> RecordParameters:
        key = next(iter(kwargs.values()))
        if not 0 < key <= LARGEST_ID:
            raise NotExpressibleError
        recorded = self.recording is not None and "HTTP_IF_NONE_MATCH" in request.META
        tags = frozenset(read_tags(request.META, "If-None-Match") if recorded else ())
        return RecordParameters(key, selection, tags)

    def execute_read(
        self, request: HttpRequest, entry: Entry, parameters: RecordParameters, before: list[Statement]
    ) -> tuple[FastResponse | None, str | None]:
        values = self.values_of(request, entry) | {KEY: parameters.key}
        values[ENTITY_TAGS] = [tag.removeprefix("W/") for tag in parameters.tags]  # they are compared weakly
        statement = self.compiled(parameters).statement(values)
        principal, version, has_successor, key, *content = execute([*before, *entry_statements(entry), statement])[0]
        if not self.confirm_entry(request, entry, principal):
            return self.respond_unverified(request, entry), None
        if has_successor:
            return None, None
        if key is None:
            return self.respond_with_problem(request, 404), None
        return self.respond_with_record(content), version

    def respond_with_record(self, content: Sequence[Any]) -> FastResponse:
        """The answer with a record, given the values of `content_columns`."""
        body = encode_json(content[0])
        return self.respond_with_json(body, headers={"ETag": entity_tag(body)})
