"""The fast PUT and PATCH of a record: one UPDATE, conditional on the entity tag where If-Match is sent."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.models import F
from django.db.models.sql import UpdateQuery
from django.http import HttpRequest

from healthcare.api.conditional_requests import read_tags
from healthcare.fastpath.actions import NotExpressibleError
from healthcare.fastpath.eligibility import Obstacle
from healthcare.fastpath.execution import Statement
from healthcare.fastpath.json_sql import (
    Fragment,
    cast_placeholder,
    record_as_json,
)
from healthcare.fastpath.placeholders import (
    ENTITY_TAGS,
    KEY,
    Parameter,
    Placeholder,
)
from healthcare.fastpath.statements import IS_PRINCIPAL, PRINCIPAL_SQL, compile_rows, entity_tag_of, raw_sql
from healthcare.fastpath.writes import CompiledWrite, FastWrite


class FastUpdate(FastWrite):
    """`PUT` and `PATCH /…/<id>/`, with or without If-Match. A record that is not there is answered by standard DRF."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.partial = self.action == "partial_update"
        self.compile = lru_cache(maxsize=1024)(self.compile_update)

    def obstacles_of_statements(self) -> Iterator[Obstacle]:
        yield from super().obstacles_of_statements()
        self.compile(("name",) if "name" in self.writable_names else (min(self.writable_names),), False)
        if sum(map(bool, self.rows().query.alias_refcount.values())) > 1:
            yield Obstacle(f"{self.viewset.__name__}.scope", "The fast path updates rows of one table without a join.")

    def compile_update(self, fields: tuple[str, ...], matching: bool) -> CompiledWrite:
        columns = [self.meta.get_field(name) for name in fields]
        given = [self.placeholders[column.attname] for column in columns]
        rows = self.rows().filter(pk=Parameter(KEY)).order_by()
        query = rows.query.chain(UpdateQuery)
        changes: dict[str, Any] = {
            column.name: raw_sql(Fragment(cast_placeholder(column), (placeholder,)))
            for column, placeholder in zip(columns, given, strict=True)
        }
        query.add_update_values(changes)  # type: ignore[attr-defined]  # a trigger counts the version
        update, parameters = query.get_compiler(connection=connection).as_sql()
        returning = self.returning()
        old = ", ".join(f'"{self.meta.db_table}"."{column.column}"' for column in columns)
        new = ", ".join(cast_placeholder(column) for column in columns)
        match = self.match_entity_tag() if matching else Fragment("")
        subject = {"subject": F(self.recording.column)} if self.recording else {}
        content = record_as_json(self.serializer_class())
        same = compile_rows(rows.values(content=raw_sql(content), **subject))
        condition = f"{IS_PRINCIPAL.sql}{match.sql}"
        names = "subject, content" if self.recording else "content"
        recorded = Fragment("")
        if self.recording:
            ids = Fragment("(SELECT array_agg(subject) FROM answered)")
            insert = self.recording.fragment(ids, Fragment("200"), Fragment("EXISTS (SELECT FROM answered)"))
            recorded = Fragment(f",\nrecorded AS ({insert.sql})", insert.parameters)
        sql = (
            f"WITH written AS ({update} AND ({old}) IS DISTINCT FROM ({new}) AND {condition} "  # noqa: S608
            f"RETURNING {returning.sql}),\n"
            # A body that changes nothing writes nothing, and answers the record.
            f"unchanged AS ({same.sql} AND ({old}) IS NOT DISTINCT FROM ({new}) AND {condition} "
            "AND NOT EXISTS (SELECT FROM written)),\n"
            f"answered AS (SELECT {names} FROM written UNION ALL SELECT {names} FROM unchanged){recorded.sql}\n"
            f"SELECT {PRINCIPAL_SQL}, content FROM (VALUES (1)) AS one LEFT JOIN answered ON true"
        )
        conditions = (*given, *IS_PRINCIPAL.parameters, *match.parameters)
        return CompiledWrite(
            Fragment(
                sql,
                (*parameters, *conditions, *returning.parameters, *same.parameters, *conditions, *recorded.parameters),
            ),
            # There are too many combinations of fields to keep a plan of each.
            plannable=len(fields) <= 2,
        )

    def match_entity_tag(self) -> Fragment:
        content = record_as_json(self.serializer_class())
        tag = entity_tag_of(content.sql)
        return Fragment(f" AND {tag.sql} = ANY(%s::text[])", (*tag.parameters, *content.parameters, ENTITY_TAGS))

    def statements(
        self, request: HttpRequest, values: dict[str, Any], known: dict[Placeholder, Any]
    ) -> list[Statement]:
        tags = read_tags(request.META, "If-Match") if "HTTP_IF_MATCH" in request.META else set()
        matching = bool(tags) and tags != {"*"}
        known[ENTITY_TAGS] = sorted(tags)
        fields = tuple(sorted(values))
        database = connections[DEFAULT_DB_ALIAS]
        for name in fields:
            field = self.meta.get_field(name)
            if hasattr(values[name], "resolve_expression"):
                raise NotExpressibleError
            known[self.placeholders[field.attname]] = field.get_db_prep_save(values[name], database)
        return [self.compile(fields, matching).statement(known)]
