"""What a viewset declares, compiled into a statement for each form of a read and of a write.

The parameters of a compiled statement are values or stand for one: `TODAY`, `CALLER`, `KEY`, `NOW`, a `Given` field.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from inspect import unwrap
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.db.models import F, Field, Model, QuerySet
from django.db.models.expressions import RawSQL
from django.db.models.signals import post_init, post_save, pre_init, pre_save
from django.db.models.sql import UpdateQuery
from django.http import HttpRequest
from rest_framework.exceptions import APIException
from rest_framework.permissions import AllowAny, IsAuthenticated, IsAuthenticatedOrReadOnly
from rest_framework.request import Request

from healthcare.direct.json_sql import row_as_json
from healthcare.ownership import Record

# Who overrides one of these elsewhere means something that is not compiled here.
HOOKS = ("dispatch", "initial", "filter_queryset", "get_serializer", "get_serializer_context", "finalize_response")
HOOKS_OF = {
    "list": ("list", "paginate_queryset", "get_paginated_response"),
    "retrieve": ("retrieve", "get_object"),
    "create": ("create", "perform_create", "get_success_headers"),
    "update": ("update", "perform_update", "get_object"),
    "partial_update": ("partial_update", "update", "perform_update", "get_object"),
}
OURS = ("rest_framework.", "healthcare.api.", "audit.")
PERMISSIONS = {AllowAny, IsAuthenticated, IsAuthenticatedOrReadOnly}
# These stand for the caller's id and the key in the path or the cursor while a queryset is compiled.
CALLER, KEY = 2**62 + 57, 2**62 + 59
CALLER_TEXT, NOW = object(), object()  # for the caller's id as text, and the time


@dataclass(frozen=True)
class Given:
    """Stands for what the client gives for a field."""

    name: str


@dataclass(frozen=True)
class Compiled:
    """SQL with the parameters in it, the methods that the answer allows, and whether the caller is nobody."""

    sql: str
    parameters: tuple[Any, ...]
    allow: str


def ordinary(viewset: Any, action: str) -> bool:
    """Whether an action does what its declarations say and nothing of its own."""
    return (
        action in HOOKS_OF
        and all(is_known(getattr(viewset, name)) for name in (*HOOKS, *HOOKS_OF[action]))
        and PERMISSIONS.issuperset(viewset.permission_classes)
        and not viewset.throttle_classes
    )


def is_known(method: Callable[..., Any]) -> bool:
    """Whether it is the framework's, or differs from that only when a query parameter asks it to."""
    return unwrap(method).__module__.startswith(OURS) or hasattr(unwrap(method), "asked_by")


def view_of(viewset: Any, actions: dict[str, str], method: str, *, anonymous: bool = False) -> Any:
    """A view as the framework makes it for a request of this method without parameters."""
    view = viewset(action_map=actions)
    for verb, name in actions.items():
        setattr(view, verb, getattr(view, name))
    if "get" in actions:
        view.head = view.get
    view.action, view.kwargs, view.format_kwarg = actions[method.lower()], {}, None
    asked = HttpRequest()
    asked.method = method
    view.request = Request(asked)
    view.request.user = AnonymousUser() if anonymous else get_user_model()(pk=CALLER)
    return view


def allowed(view: Any) -> bool:
    try:
        view.check_permissions(view.request)
    except APIException:
        return False
    return True


def scope_of(view: Any) -> QuerySet | None:
    """The rows that the view reaches; None where that is none at all or more than the rows of one table."""
    scope: QuerySet = view.filter_queryset(view.get_queryset())
    query = scope.query
    return None if query.annotations or query.select_related or query.is_empty() else scope


@cache
def compile_read(viewset: Any, get_queryset: Any, actions: Any, direction: str, anonymous: bool) -> Compiled | None:
    """What the viewset answers to one form of query; None where that is more than this can."""
    view = view_of(viewset, dict(actions), "GET", anonymous=anonymous)
    row = row_as_json(view.get_serializer_class())
    if row is None or not ordinary(viewset, view.action) or not allowed(view):
        return None
    scope = scope_of(view)
    if scope is None:
        return None
    rows = chosen(scope, direction).values(key=F("pk"), noted=F(viewset.noted()), content=RawSQL(*row))  # noqa: S611
    sql, parameters = rows.query.get_compiler(connection=connection).as_sql()
    return Compiled(sql, tuple(parameters), ", ".join(view.allowed_methods))


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
        f"INSERT INTO \"{table.db_table}\" ({names}) SELECT {given} WHERE %s = current_setting('app.user_id') "  # noqa: S608
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


@lru_cache(maxsize=256)
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
    values |= {"updated_at": RawSQL("%s::timestamptz", [NOW]), "version": F("version") + 1}  # noqa: S611
    query = scope.filter(pk=KEY).order_by().query.chain(UpdateQuery)
    query.add_update_values(values)  # type: ignore[attr-defined]
    update, parameters = query.get_compiler(connection=connection).as_sql()
    if sum(map(bool, query.alias_refcount.values())) > 1:
        return None
    old = ", ".join(f'"{table.db_table}"."{field.column}"' for field in columns)
    new = ", ".join(cast(field) for field in columns)
    sql = f"{update} AND ({old}) IS DISTINCT FROM ({new}) RETURNING {returned(viewset, table, row[0])}"
    differing = [Given(field.attname) for field in columns]
    return Compiled(sql, (*parameters, *differing, *row[1]), ", ".join(view.allowed_methods))


def cast(field: Any) -> str:
    """A parameter as a value of the field's type, too long a text as it is: the column refuses it."""
    return f"%s::{field.db_type(connection).partition('(')[0]}"


def returned(viewset: Any, table: Any, row: str) -> str:
    key, noted = (table.pk if name == "pk" else table.get_field(name) for name in ("pk", viewset.noted()))
    own = f'"{table.db_table}"'
    return f'{own}."{key.column}" AS key, {own}."{noted.column}" AS noted, {row} AS content'
