"""Direct reads: the usual GET of a record or a page in one round trip, as JSON that PostgreSQL builds.

What a viewset declares (scope, filters, permissions, serializer, paging) is compiled once into a statement for each
shape of a query. The plain way through Django REST framework stays the truth: whatever is no ordinary 200 (a header or
a parameter that asks for more, a token that is not good, nothing found, a database that is away) is left to it, and it
answers as if this were not there.

One simple query holds two statements and is one transaction: the first enters the database as the caller, the second
reads behind row-level security and records the read. Without a living session the first enters as nobody.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, lru_cache
from inspect import unwrap
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import EmptyResultSet
from django.db import Error, connection, transaction
from django.db.models import F, QuerySet
from django.db.models.expressions import RawSQL
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from rest_framework.exceptions import APIException
from rest_framework.permissions import AllowAny, IsAuthenticated, IsAuthenticatedOrReadOnly
from rest_framework.request import Request
from rest_framework.viewsets import GenericViewSet

from healthcare.api.concurrency import entity_tag
from healthcare.api.cursors import LARGEST_ID, Cursor, Keyset
from healthcare.api.json_sql import TODAY, row_as_json
from healthcare.api.pagination import DEFAULT_LIMIT, KeysetPagination, read_limit
from healthcare.api.prepared import failed, prepared
from healthcare.isolation.caller import Entry

# Who overrides one of these elsewhere means something that is not compiled here.
HOOKS = (
    "dispatch", "initial", "filter_queryset", "get_object", "get_serializer",
    "get_serializer_context", "paginate_queryset", "get_paginated_response", "finalize_response",
)  # fmt: skip
OURS = ("rest_framework.", "healthcare.api.", "audit.")
PERMISSIONS = {AllowAny, IsAuthenticated, IsAuthenticatedOrReadOnly}
KEYSET = Keyset(None, ["pk"], descending=True)  # type: ignore[arg-type]  # reads cursors alone
PREPARED = {1, 10, 20, 50, 100}  # rows; what clients ask for most, as many plans as a session can keep
CONTENT_TYPE = "application/json"
# Headers that ask for more than an ordinary answer, or that may be refused.
ASKING = {"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_X_CHANGE_REASON", "HTTP_PREFER"}
# These stand for the caller's id and the key in the path or the cursor while a queryset is compiled.
CALLER, KEY = 2**62 + 57, 2**62 + 59


@dataclass(frozen=True)
class Shape:
    """A read of one form: its SQL, the parameters in it, and the methods that its answer allows."""

    sql: str
    parameters: tuple[Any, ...]
    allow: str


@dataclass(frozen=True)
class Place:
    """Where a read begins, and how many rows it wants. `form` is `=` for the row with the key, `<` and `>` for the rows
    before and after it, empty for the first page."""

    form: str
    key: int
    limit: int
    cursor: Cursor | None = None


class DirectReads(GenericViewSet):
    """Gives a viewset its direct reads. Around everything else is one transaction, as ATOMIC_REQUESTS has it."""

    @classmethod
    def as_view(cls, actions: Any = None, **initkwargs: Any) -> Any:
        plain: Any = super().as_view(actions, **initkwargs)
        reading = ordinary(cls, (actions or {}).get("get", ""))

        def view(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            found = answer(cls, actions, request, kwargs) if reading and request.method == "GET" else None
            if found is not None:
                return found
            with transaction.atomic():
                return plain(request, *args, **kwargs)

        view.__dict__.update(plain.__dict__)
        return transaction.non_atomic_requests(view)

    @classmethod
    def noted(cls) -> str:
        """The column that `recording` finds as `noted` in each row of `shown`."""
        return "pk"

    @classmethod
    def recording(cls, action: str, request: HttpRequest, caller: int | None) -> tuple[str, list[Any]] | None:
        """A statement that records the read of the rows of the relation `shown`, nothing where there is none, with its
        parameters; None where reads are not recorded."""
        return None


def ordinary(viewset: Any, action: str) -> bool:
    return (
        action in {"list", "retrieve"}
        and all(unwrap(getattr(viewset, name)).__module__.startswith(OURS) for name in (*HOOKS, action))
        and PERMISSIONS.issuperset(viewset.permission_classes)
        and not viewset.throttle_classes
    )


def answer(viewset: Any, actions: dict[str, str], request: HttpRequest, kwargs: dict[str, Any]) -> HttpResponse | None:
    """The ordinary 200, or None."""
    if ASKING & request.META.keys() or connection.connection is None:
        return None
    entry = viewset.authentication_classes[0]().entry(request)
    if entry is None:
        return None
    place = place_of(request, actions["get"], kwargs)
    if place is None:
        return None
    shape = compiled(viewset, viewset.get_queryset, tuple(actions.items()), place.form, entry.caller is None)
    rows = read(viewset, actions["get"], shape, request, entry, place) if shape else []
    if not shape or not rows:
        return None
    return page(shape, rows, request, place) if place.form != "=" else record(shape, rows)


def place_of(request: HttpRequest, action: str, kwargs: dict[str, Any]) -> Place | None:
    if kwargs.get("pk", 0) > LARGEST_ID:
        return None
    if not request.META["QUERY_STRING"]:
        return Place("=", kwargs["pk"], 1) if action == "retrieve" else Place("", 0, DEFAULT_LIMIT)
    asked = request.GET
    if action == "retrieve" or not {"limit", "cursor"} >= asked.keys() or any(len(all) > 1 for _, all in asked.lists()):
        return None
    try:
        limit, cursor = read_limit(asked.get("limit")), KEYSET.read(asked.get("cursor"))
    except APIException:
        return None
    return Place(">" if cursor.back else "<", cursor.values[0], limit, cursor) if cursor else Place("", 0, limit)


def read(
    viewset: Any, action: str, shape: Shape, request: HttpRequest, entry: Entry, place: Place
) -> list[tuple[int, str]]:
    """Key and JSON of the rows within the limit, and of the next one; none where the plain way has to look."""
    known = {CALLER: entry.caller, KEY: place.key, TODAY: timezone.localdate()}
    parameters = [*entry.parameters, *(known.get(value, value) for value in shape.parameters)]
    recording = viewset.recording(action, request, entry.caller)
    if recording:
        parameters += recording[1]
    parameters.append(str(entry.caller or ""))
    reading = statement(shape.sql, recording and recording[0], place.limit)
    connection.health_check_done = True  # type: ignore[attr-defined]  # dead: the plain way finds out and mends it
    try:
        # Within a transaction a failure must not be the end of that.
        with transaction.atomic() if connection.in_atomic_block else nullcontext(), connection.cursor() as cursor:
            sql = prepared(connection.connection, reading) if place.limit in PREPARED else reading
            cursor.execute(f"{entry.sql};\n{sql}", parameters)
            rows: list[tuple[int, str]] = cursor.fetchall()
            return rows
    except Error as error:
        failed(error)
        connection.health_check_done = False  # type: ignore[attr-defined]
        return []


@lru_cache(maxsize=1024)
def statement(scope: str, recording: str | None, limit: int) -> str:
    recorded = ""
    if recording:
        recorded = f",\nshown AS (SELECT noted FROM page LIMIT {limit}),\nrecorded AS ({recording})"  # noqa: S608
    # Whoever sent a token that is no longer good gets nothing, not even what is public.
    rows = "SELECT key, content FROM page WHERE %s = current_setting('app.user_id')"
    return f"WITH page AS MATERIALIZED ({scope} LIMIT {limit + 1}){recorded}\n{rows}"  # noqa: S608  (SQL of our own)


def record(shape: Shape, rows: list[tuple[int, str]]) -> HttpResponse:
    content = encoded(rows[0][1])
    return HttpResponse(content, CONTENT_TYPE, headers={"Allow": shape.allow, "ETag": entity_tag(content)})


def page(shape: Shape, rows: list[tuple[int, str]], request: HttpRequest, place: Place) -> HttpResponse:
    shown = rows[: place.limit][::-1] if place.form == ">" else rows[: place.limit]
    paginator = KeysetPagination()
    paginator.request = request  # type: ignore[assignment]  # all that links need of it
    ends = Cursor((shown[0][0],), back=True), Cursor((shown[-1][0],), back=False)
    links = paginator.link_header(place.cursor, *ends, more=len(rows) > place.limit)
    content = encoded(f"[{','.join(body for _, body in shown)}]")
    return HttpResponse(content, CONTENT_TYPE, headers={"Allow": shape.allow, **links})


def encoded(text: str) -> bytes:
    """In UTF-8, with the two separators escaped as DRF's renderer does."""
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode()


@cache
def compiled(viewset: Any, get_queryset: Any, actions: Any, direction: str, anonymous: bool) -> Shape | None:
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
    return Shape(sql, tuple(parameters), ", ".join(view.allowed_methods))


def chosen(scope: QuerySet, direction: str) -> QuerySet:
    if direction == "=":
        return scope.filter(pk=KEY)
    compared = {"": scope, "<": scope.filter(pk__lt=KEY), ">": scope.filter(pk__gt=KEY)}
    return compared[direction].order_by("pk" if direction == ">" else "-pk")
