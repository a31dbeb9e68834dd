"""What a viewset declares, compiled into a statement for each form of a read."""

from dataclasses import dataclass
from functools import cache, lru_cache
from inspect import unwrap
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import F, QuerySet
from django.db.models.expressions import RawSQL
from django.http import HttpRequest
from rest_framework.exceptions import APIException
from rest_framework.permissions import AllowAny, IsAuthenticated, IsAuthenticatedOrReadOnly
from rest_framework.request import Request

from healthcare.api.json_sql import row_as_json

# Who overrides one of these elsewhere means something that is not compiled here.
HOOKS = (
    "dispatch", "initial", "filter_queryset", "get_object", "get_serializer",
    "get_serializer_context", "paginate_queryset", "get_paginated_response", "finalize_response",
)  # fmt: skip
OURS = ("rest_framework.", "healthcare.api.", "audit.")
PERMISSIONS = {AllowAny, IsAuthenticated, IsAuthenticatedOrReadOnly}
# These stand for the caller's id and the key in the path or the cursor while a queryset is compiled.
CALLER, KEY = 2**62 + 57, 2**62 + 59


@dataclass(frozen=True)
class CompiledRead:
    """A read of one form: its SQL, the parameters in it, and the methods that its answer allows."""

    sql: str
    parameters: tuple[Any, ...]
    allow: str


def ordinary(viewset: Any, action: str) -> bool:
    return (
        action in {"list", "retrieve"}
        and all(unwrap(getattr(viewset, name)).__module__.startswith(OURS) for name in (*HOOKS, action))
        and PERMISSIONS.issuperset(viewset.permission_classes)
        and not viewset.throttle_classes
    )


@cache
def compile_read(viewset: Any, get_queryset: Any, actions: Any, direction: str, anonymous: bool) -> CompiledRead | None:
    """What the viewset answers to one form of query, from what it declares; None where that is more than this can."""
    view = viewset(action_map=dict(actions))
    for method, name in actions:
        setattr(view, method, getattr(view, name))
    view.head, view.action, view.kwargs, view.format_kwarg = view.get, view.get.__name__, {}, None
    asked = HttpRequest()
    asked.method = "GET"
    view.request = Request(asked)
    view.request.user = AnonymousUser() if anonymous else get_user_model()(pk=CALLER)
    row = row_as_json(view.get_serializer_class())
    if row is None:
        return None
    try:
        view.check_permissions(view.request)
        scope = chosen(view.filter_queryset(view.get_queryset()), direction)
        if scope.query.annotations or scope.query.select_related:
            return None
        rows = scope.values(key=F("pk"), noted=F(viewset.noted()), content=RawSQL(*row))  # noqa: S611
        sql, parameters = rows.query.get_compiler(connection=connection).as_sql()
    except (APIException, EmptyResultSet):
        return None
    return CompiledRead(sql, tuple(parameters), ", ".join(view.allowed_methods))


def chosen(scope: QuerySet, direction: str) -> QuerySet:
    if direction == "=":
        return scope.filter(pk=KEY)
    compared = {"": scope, "<": scope.filter(pk__lt=KEY), ">": scope.filter(pk__gt=KEY)}
    return compared[direction].order_by("pk" if direction == ">" else "-pk")


@lru_cache(maxsize=1024)
def statement(scope: str, recording: str | None, limit: int) -> str:
    recorded = ""
    if recording:
        recorded = f",\nshown AS (SELECT noted FROM page LIMIT {limit}),\nrecorded AS ({recording})"  # noqa: S608
    # Whoever sent a token that is no longer good gets nothing, not even what is public.
    rows = "SELECT key, content FROM page WHERE %s = current_setting('app.user_id')"
    return f"WITH page AS MATERIALIZED ({scope} LIMIT {limit + 1}){recorded}\n{rows}"  # noqa: S608  (SQL of our own)
