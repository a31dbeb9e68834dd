"""The filters of a fast list: the rows that they leave, and their conditions as SQL."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import local
from typing import Any

from django.core.exceptions import ValidationError as InvalidValueError
from django.db import connection
from django.db.models import Exists, QuerySet
from django.db.models.sql.where import AND
from django.http import QueryDict
from django.utils.functional import cached_property

from healthcare.api.filters import IdFilter
from healthcare.fastpath.actions import InaccessibleValue, NotExpressibleError, obstacles_of_scope, refuse_query
from healthcare.fastpath.eligibility import Obstacle, obstacles_of_filterset
from healthcare.fastpath.json_sql import Fragment
from healthcare.fastpath.placeholders import OWNER, Parameter, Placeholder

CONDITIONS = Placeholder("conditions")  # of filters


@dataclass(frozen=True)
class StatementWithConditions:
    """A statement with a place for the conditions of filters: the SQL and the parameters before and after it."""

    before: Fragment
    after: Fragment

    @classmethod
    def of(cls, fragment: Fragment) -> "StatementWithConditions":
        position = fragment.parameters.index(CONDITIONS)
        pieces = fragment.sql.split("%s")
        before, after = "%s".join(pieces[: position + 1]), "%s".join(pieces[position + 1 :])
        return cls(
            Fragment(before, fragment.parameters[:position]), Fragment(after, fragment.parameters[position + 1 :])
        )

    def with_conditions(self, conditions: Fragment) -> Fragment:
        sql = f"{self.before.sql}{conditions.sql}{self.after.sql}"
        return Fragment(sql, self.before.parameters + conditions.parameters + self.after.parameters)


def kind_of_rows(rows: QuerySet) -> Any:
    """All that a filter may change about a queryset, beside its conditions."""
    query = rows.query
    return rows.model, rows.db, rows._iterable_class, query.extra, query.standard_ordering, query.order_by


class ListFilters:
    """The filters of a filter set, applied to the rows that `unfiltered` returns."""

    def __init__(self, filterset_class: Any, unfiltered: Callable[[], QuerySet]) -> None:
        self.filterset_class, self.unfiltered_rows = filterset_class, unfiltered
        self.names = frozenset(filterset_class.base_filters if filterset_class else ())
        self.thread = local()

    def obstacles(self) -> Iterator[Obstacle]:
        if not self.filterset_class:
            return
        yield from obstacles_of_filterset(self.filterset_class)
        for name, one in self.filterset_class.base_filters.items():
            if isinstance(one, IdFilter):
                yield from obstacles_of_scope(f"{self.filterset_class.__name__}.{name}", one.scope)

    @cached_property
    def unfiltered(self) -> QuerySet:
        """The rows that filters start from. Never evaluated, and copied by each filter."""
        return self.unfiltered_rows()

    def apply(self, query: QueryDict) -> tuple[QuerySet, bool]:
        """The rows that the filters leave, and whether a filter names another record by its id.

        Such a record is looked for in the same statement. Without it no row is left.
        """
        filterset, rows, names_record = self.filterset(query), self.unfiltered, False
        with connection.execute_wrapper(refuse_query):
            for name, one in filterset.filters.items():
                # That of an IdFilter was made without a request: the statement looks for its record.
                field = vars(one)["_field"] if isinstance(one, IdFilter) else one.field
                text = field.widget.value_from_datadict(query, {}, name)
                if not isinstance(text, str) or not text.strip():
                    raise NotExpressibleError
                try:
                    value = field.clean(text)
                except InvalidValueError as error:
                    raise NotExpressibleError from error
                rows = one.filter(rows, value)
                if isinstance(one, IdFilter):
                    rows, names_record = rows.filter(Exists(one.scope(Parameter(OWNER)).filter(pk=value))), True
        if kind_of_rows(rows) != kind_of_rows(self.unfiltered):
            raise NotExpressibleError
        return rows, names_record

    def filterset(self, query: QueryDict) -> Any:
        """A filter set of this thread, as it was made, for these parameters, with the filters that they name."""
        if not hasattr(self.thread, "made"):
            everything = dict.fromkeys(self.names, "")
            filterset = self.filterset_class(everything, self.unfiltered)
            for one in filterset.filters.values():
                if isinstance(one, IdFilter):
                    vars(one.field)["checked_in_statement"] = True
            self.thread.made = filterset, vars(filterset) | {"request": InaccessibleValue()}
        filterset, state = self.thread.made
        vars(filterset).clear()
        named = {name: one for name, one in state["filters"].items() if name in query}
        vars(filterset).update(state, data=query, filters=named)
        return filterset

    def conditions_of(self, rows: QuerySet) -> Fragment | None:
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
