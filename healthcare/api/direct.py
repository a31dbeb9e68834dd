"""Direct reads: the usual GET of a record or a page in one round trip, as JSON that PostgreSQL builds.

What a viewset declares (scope, filters, permissions, serializer, paging) is compiled once into a statement for each
form of a query. The plain way through Django REST framework stays the truth: whatever is no ordinary 200 (a header or
a parameter that asks for more, a token that is not good, nothing found, a database that is away) is left to it, and it
answers as if this were not there.

One simple query holds two statements and is one transaction: the first enters the database as the caller, the second
reads behind row-level security and records the read. Without a living session the first enters as nobody.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from django.db import Error, connection, transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from rest_framework.exceptions import APIException
from rest_framework.viewsets import GenericViewSet

from healthcare.api.compiled import CALLER, KEY, CompiledRead, compile_read, ordinary, statement
from healthcare.api.concurrency import entity_tag
from healthcare.api.cursors import LARGEST_ID, Cursor, Keyset
from healthcare.api.json_sql import TODAY
from healthcare.api.pagination import DEFAULT_LIMIT, KeysetPagination, read_limit
from healthcare.api.prepared import failed, prepared, ran
from healthcare.isolation.caller import Entry

KEYSET = Keyset(None, ["pk"], descending=True)  # type: ignore[arg-type]  # reads cursors alone
PREPARED = {1, 10, 20, 50, 100}  # rows; what clients ask for most, as many plans as a session can keep
CONTENT_TYPE = "application/json"
# Headers that ask for more than an ordinary answer, or that may be refused.
ASKING = {"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_X_CHANGE_REASON", "HTTP_PREFER"}


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
    compiled = compile_read(viewset, viewset.get_queryset, tuple(actions.items()), place.form, entry.caller is None)
    rows = read(viewset, actions["get"], compiled, request, entry, place) if compiled else []
    if not compiled or not rows:
        return None
    return page(compiled, rows, request, place) if place.form != "=" else record(compiled, rows)


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
    viewset: Any, action: str, compiled: CompiledRead, request: HttpRequest, entry: Entry, place: Place
) -> list[tuple[int, str]]:
    """Key and JSON of the rows within the limit, and of the next one; none where the plain way has to look."""
    known = {CALLER: entry.caller, KEY: place.key, TODAY: timezone.localdate()}
    parameters = [*entry.parameters, *(known.get(value, value) for value in compiled.parameters)]
    recording = viewset.recording(action, request, entry.caller)
    if recording:
        parameters += recording[1]
    parameters.append(str(entry.caller or ""))
    reading = statement(compiled.sql, recording and recording[0], place.limit)
    preparing = place.limit in PREPARED
    session = connection.connection
    connection.health_check_done = True  # type: ignore[attr-defined]  # dead: the plain way finds out and mends it
    try:
        # Within a transaction a failure must not be the end of that.
        with transaction.atomic() if connection.in_atomic_block else nullcontext(), connection.cursor() as cursor:
            cursor.execute(f"{entry.sql};\n{prepared(session, reading) if preparing else reading}", parameters)
            rows: list[tuple[int, str]] = cursor.fetchall()
    except Error as error:
        failed(session, reading, error)
        connection.health_check_done = False  # type: ignore[attr-defined]
        return []
    if preparing:
        ran(session, reading)
    return rows


def record(compiled: CompiledRead, rows: list[tuple[int, str]]) -> HttpResponse:
    content = encoded(rows[0][1])
    return HttpResponse(content, CONTENT_TYPE, headers={"Allow": compiled.allow, "ETag": entity_tag(content)})


def page(compiled: CompiledRead, rows: list[tuple[int, str]], request: HttpRequest, place: Place) -> HttpResponse:
    shown = rows[: place.limit][::-1] if place.form == ">" else rows[: place.limit]
    paginator = KeysetPagination()
    paginator.request = request  # type: ignore[assignment]  # all that links need of it
    ends = Cursor((shown[0][0],), back=True), Cursor((shown[-1][0],), back=False)
    links = paginator.link_header(place.cursor, *ends, more=len(rows) > place.limit)
    content = encoded(f"[{','.join(body for _, body in shown)}]")
    return HttpResponse(content, CONTENT_TYPE, headers={"Allow": compiled.allow, **links})


def encoded(text: str) -> bytes:
    """In UTF-8, with the two separators escaped as DRF's renderer does."""
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode()
