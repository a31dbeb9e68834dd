"""The fast GETs of lists that belong to the record in the path."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from django.db.models import BooleanField, F, Model, QuerySet
from django.db.models.expressions import RawSQL
from django.http import QueryDict

from healthcare.api.sparse_fieldsets import FieldSelection
from healthcare.fastpath.actions import NotExpressibleError, obstacles_of_scope
from healthcare.fastpath.eligibility import Obstacle
from healthcare.fastpath.json_sql import Fragment, record_as_json
from healthcare.fastpath.list_filters import ListFilters
from healthcare.fastpath.lists import CURSOR, EXISTS_TARGET, PLANNED_LIMITS, FastList, ListPage, ListParameters
from healthcare.fastpath.placeholders import KEY, OWNER, Parameter
from healthcare.fastpath.statements import CompiledRead, compile_read, compile_rows


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
        exists = RawSQL(EXISTS_TARGET, [], BooleanField())  # noqa: S611  (a constant)
        return self.rows().filter(exists, **{f"{self.parent}_id": Parameter(KEY)})

    def compile_target(self) -> dict[str, Fragment]:
        parents = self.viewset.parent_scope(Parameter(OWNER)).filter(pk=Parameter(KEY)).order_by()
        return {"target": compile_rows(parents.values(found=F("pk")))}

    def record_list(self, ids: Fragment, condition: str = "") -> Fragment:
        if self.recording and self.recording.path_names_subject:
            ids = Fragment("ARRAY[%s]::bigint[]", (KEY,))
        return super().record_list(ids, condition)

    def compile_content(self, selection: FieldSelection) -> Fragment:
        table, key = self.model._meta.db_table, self.model._meta.pk.column
        return record_as_json(self.serializer(), columns=[(self.viewset.association_id_field, f'"{table}"."{key}"')])

    def content_values(self, selection: FieldSelection) -> dict[str, Any]:
        # Any column of the related record joins its table.
        return {"joined": F(f"{self.related}__created_at"), **super().content_values(selection)}


class FastRecordList(FastList):
    """`GET /…/<id>/<action>/`: rows of another table about the record in the path, the latest first."""

    path_arguments = frozenset({"pk"})

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.orderings, self.filters = (), ListFilters(None, self.rows_of_list)
        self.known_parameters = {"limit", "cursor"}

    def target(self) -> QuerySet:
        """The record in the path, as a queryset."""
        return self.rows().filter(pk=Parameter(KEY)).order_by()

    def compile_rows_of_record(self, condition: str) -> Fragment:
        """The rows about the record `KEY` as `key` and `content`, in no order. The SQL condition is about `key`."""
        raise NotImplementedError

    def obstacles_of_statements(self) -> Iterator[Obstacle]:
        yield from self.obstacles_of_scopes()
        self.compile(ListPage(20))

    def compile_list(self, page: ListPage) -> CompiledRead:
        rows = self.compile_rows_of_record("" if page.back is None else "key < %s::bigint")
        cursor = () if page.back is None else (CURSOR[0],)
        sql = f"{rows.sql} {page.order_by} LIMIT {page.limit + 1}"
        expressions = self.compile_target()
        expressions["page"] = Fragment(sql, (*rows.parameters, *cursor))
        if self.recording:
            ids = Fragment("(SELECT coalesce(array_agg(subject), '{}') FROM target)")
            expressions["recorded"] = self.record_list(ids)
        plannable = page.limit in PLANNED_LIMITS
        return compile_read(expressions, self.compile_result(page), state=self.state, plannable=plannable, rare=False)

    def compile_target(self) -> dict[str, Fragment]:
        subject = {"subject": F(self.recording.column)} if self.recording else {}
        return {"target": compile_rows(self.target().values(found=F("pk"), **subject))}

    def parse(self, query: QueryDict) -> ListParameters:
        parameters = super().parse(query)
        if parameters.page.back:
            raise NotExpressibleError
        return parameters
