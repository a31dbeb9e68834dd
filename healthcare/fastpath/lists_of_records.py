"""The fast GETs of lists that belong to the record in the path."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from django.db.models import F, Model, QuerySet
from django.http import HttpRequest

from healthcare.api.pagination import read_limit
from healthcare.api.sparse_fieldsets import FieldSelection
from healthcare.fastpath.actions import NotExpressibleError, obstacles_of_scope
from healthcare.fastpath.eligibility import Obstacle
from healthcare.fastpath.json_sql import Fragment, record_as_json
from healthcare.fastpath.lists import CURSOR, PLANNED_LIMITS, FastList, ListParameters, Page
from healthcare.fastpath.placeholders import CALLER, KEY, Parameter
from healthcare.fastpath.reads import read_query
from healthcare.fastpath.statements import CompiledRead, compile_result, compile_rows
from healthcare.model_fields import LARGEST_ID


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
        self.compile(Page(20))

    def compile_list(self, page: Page) -> CompiledRead:
        subject = {"subject": F(self.recording.column)} if self.recording else {}
        target = compile_rows(self.target().values(found=F("pk"), **subject))
        rows = self.compile_rows_of_record("" if page.back is None else "key < %s::bigint")
        order = Fragment("ORDER BY key DESC")
        cursor = () if page.back is None else (CURSOR[0],)
        fragment = Fragment(f"{rows.sql} {order.sql} LIMIT {page.limit + 1}", (*rows.parameters, *cursor))
        recorded = Fragment("")
        if self.recording:
            ids = Fragment("(SELECT coalesce(array_agg(subject), '{}') FROM target)")
            insert = self.record_list(ids, Fragment(" AND EXISTS (SELECT FROM target)"))
            recorded = Fragment(f",\nrecorded AS ({insert.sql})", insert.parameters)
        exists = Fragment("EXISTS (SELECT FROM target)")
        compiled = compile_result(fragment, recorded, exists, order, plannable=page.limit in PLANNED_LIMITS)
        sql = compiled.fragment.sql.replace("WITH page", f"WITH target AS MATERIALIZED ({target.sql}),\npage", 1)
        return CompiledRead(Fragment(sql, target.parameters + compiled.fragment.parameters), compiled.plannable)

    def read_parameters(self, request: HttpRequest, kwargs: dict[str, Any]) -> ListParameters:
        parameters = read_query(request, {"limit", "cursor"})
        cursor = self.read_cursor(parameters.get("cursor"), ["pk"])
        key = int(next(iter(kwargs.values())))
        if (cursor and cursor.back) or not 0 < key <= LARGEST_ID:
            raise NotExpressibleError
        return ListParameters(Page(read_limit(parameters), back=False if cursor else None), cursor, parent=key)
