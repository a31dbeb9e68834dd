"""What a viewset declares, compiled into a statement for each form of a read and of a write.

The parameters of a compiled statement are values or stand for one: `TODAY`, `CALLER`, `KEY`, `NAMED`, a `Given` field.
"""

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from django.db import connection
from django.db.models import DateTimeField, F, Field, Func, Model, QuerySet
from django.db.models.expressions import RawSQL
from django.db.models.signals import post_init, post_save, pre_init, pre_save
from django.db.models.sql import UpdateQuery

from healthcare.api.viewsets import NestedListViewSet
from healthcare.fastpath.declared import allowed, ordinary, scope_of, view_of
from healthcare.fastpath.json_sql import row_as_json
from healthcare.ownership import Record

# These stand for the key in the path or the cursor, and the other end that a path names, while a queryset is compiled.
KEY, NAMED = 2**62 + 59, 2**62 + 61
CALLER_TEXT = object()  # for the caller's id as text
CLOCK = Func(function="clock_timestamp", output_field=DateTimeField())
# Whoever's login has ended writes nothing, whatever the policies of the table say.
IS_CALLER = "%s = current_setting('app.user_id')"


@dataclass(frozen=True)
class Given:
    """Stands for what the client gives for a field."""

    name: str


@dataclass(frozen=True)
class Compiled:
    """SQL with the parameters in it, and the methods that the answer allows."""

    sql: str
    parameters: tuple[Any, ...]
    allow: str


@cache
def compile_read(viewset: Any, get_queryset: Any, actions: Any, direction: str, anonymous: bool) -> Compiled | None:
    """What the viewset answers to one form of query; None where that is more than this can."""
    view = view_of(viewset, dict(actions), "GET", anonymous=anonymous)
    if not ordinary(viewset, view.action) or not allowed(view):
        return None
    scope, nested = scope_of(view), issubclass(viewset, NestedListViewSet)
    row = nested_row(viewset) if nested else row_as_json(view.get_serializer_class())
    if row is None or scope is None:
        return None
    rows = chosen(scope, direction)
    if nested:
        rows = rows.filter(**{viewset.parent: NAMED, f"{viewset.parent}__in": view.get_parents()})
        rows = rows.values(joined=F(f"{viewset.related}__created_at"))
    rows = rows.values(key=F("pk"), noted=F(viewset.noted()), content=RawSQL(*row))  # noqa: S611
    sql, parameters = rows.query.get_compiler(connection=connection).as_sql()
    return Compiled(sql, tuple(parameters), ", ".join(view.allowed_methods))


def nested_row(viewset: type[NestedListViewSet]) -> tuple[str, list[Any]] | None:
    """The related record, with the id of the association."""
    table: Any = viewset.queryset.model._meta  # type: ignore[union-attr]
    association_id = f'"{table.db_table}"."{table.pk.column}"'
    return row_as_json(viewset.serializer_class, (viewset.association_id_field, association_id))  # type: ignore[arg-type]


def chosen(scope: QuerySet, direction: str) -> QuerySet:
    if direction == "=":
        return scope.filter(pk=KEY)
    compared = {"": scope, "<": scope.filter(pk__lt=KEY), ">": scope.filter(pk__gt=KEY)}
    return compared[direction].order_by("pk" if direction == ">" else "-pk")


@cache
def compile_creation(viewset: Any, actions: Any) -> Compiled | None:
    """The INSERT of one record of the caller, answered as its JSON; None where creating is more than that."""
    view = view_of(viewset, dict(actions), "POST")
    row = row_as_json(view.get_serializer_class())
    if row is None or not ordinary(viewset, view.action) or not allowed(view):
        return None
    table = view.get_serializer_class().Meta.model._meta
    columns = inserted(table.model)
    if columns is None:
        return None
    names = ", ".join(f'"{field.column}"' for field in columns)
    given = ", ".join(cast(field) for field in columns)
    sql = (
        f'INSERT INTO "{table.db_table}" ({names}) SELECT {given} WHERE {IS_CALLER} '  # noqa: S608
        f"RETURNING {returned(viewset, table, row[0])}"
    )
    parameters = [*(Given(field.attname) for field in columns), CALLER_TEXT, *row[1]]
    return Compiled(sql, tuple(parameters), ", ".join(view.allowed_methods))


@cache
def inserted(model: type[Model]) -> list[Field] | None:
    """The columns that an INSERT gives, all but the key; None where the database or a signal has a say in them."""
    columns = [field for field in model._meta.concrete_fields if not field.primary_key]
    heard = any(signal.has_listeners(model) for signal in (pre_init, post_init, pre_save, post_save))
    heard = heard or model.save is not Record.save
    return None if heard or any(field.has_db_default() or field.generated for field in columns) else columns


@lru_cache(maxsize=1024)
def compile_change(
    viewset: Any, get_queryset: Any, actions: Any, method: str, fields: tuple[str, ...]
) -> Compiled | None:
    """The UPDATE of these fields of one record where any of them differs, answered as its JSON; None where changing is
    more than that."""
    view = view_of(viewset, dict(actions), method)
    row = row_as_json(view.get_serializer_class())
    if row is None or not ordinary(viewset, view.action) or not allowed(view):
        return None
    scope = scope_of(view)
    if scope is None or any(signal.has_listeners(scope.model) for signal in (pre_init, post_init)):
        return None
    table = scope.model._meta
    columns = [table.get_field(name) for name in fields]
    values: dict[str, Any] = {field.name: RawSQL(cast(field), [Given(field.attname)]) for field in columns}  # noqa: S611
    query = scope.filter(pk=KEY).order_by().query.chain(UpdateQuery)
    query.add_update_values(values)  # type: ignore[attr-defined]
    update, parameters = query.get_compiler(connection=connection).as_sql()
    if sum(map(bool, query.alias_refcount.values())) > 1:
        return None
    old = ", ".join(f'"{table.db_table}"."{field.column}"' for field in columns)
    new = ", ".join(cast(field) for field in columns)
    where = f"({old}) IS DISTINCT FROM ({new}) AND {IS_CALLER}"
    sql = f"{update} AND {where} RETURNING {returned(viewset, table, row[0])}"
    differing = [Given(field.attname) for field in columns]
    return Compiled(sql, (*parameters, *differing, CALLER_TEXT, *row[1]), ", ".join(view.allowed_methods))


def cast(field: Any) -> str:
    """A parameter as a value of the field's type, too long a text as it is: the column refuses it."""
    return f"%s::{field.db_type(connection).partition('(')[0]}"


def returned(viewset: Any, table: Any, row: str) -> str:
    key, noted = (table.pk if name == "pk" else table.get_field(name) for name in ("pk", viewset.noted()))
    own = f'"{table.db_table}"'
    return f'{own}."{key.column}" AS key, {own}."{noted.column}" AS noted, {row} AS content'
