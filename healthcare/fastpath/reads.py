"""The direct GET of a record or of a page."""

from dataclasses import dataclass

from django.core.exceptions import SuspiciousOperation
from django.core.handlers.wsgi import WSGIRequest
from django.db import Error
from rest_framework.exceptions import APIException

from healthcare.api.cursors import Cursor, Keyset
from healthcare.api.pagination import DEFAULT_LIMIT, KeysetPagination, read_limit
from healthcare.fastpath.answers import JSON, RETRY, Answer, encoded, failure, record
from healthcare.fastpath.compiled import Compiled, compile_read
from healthcare.fastpath.routes import Place
from healthcare.fastpath.statements import Row, ask, filled, has_waited, reading

KEYSET = Keyset(None, ["pk"], descending=True)  # type: ignore[arg-type]  # reads cursors alone
PREPARED = {1, 10, 20, 50, 100}  # rows; what clients ask for most, as many plans as a session can keep


@dataclass(frozen=True)
class Span:
    """Where a read begins, and how many rows it wants. `form` is `=` for the row with the key, `<` and `>` for the rows
    before and after it, empty for the first page. `named` is the number in the path."""

    form: str
    key: int
    limit: int
    cursor: Cursor | None = None
    named: int = 0


def answer(place: Place, request: WSGIRequest) -> Answer | None:
    """The ordinary 200, or None."""
    viewset, action = place.route.viewset, place.action
    entry = viewset.authentication_classes[0]().entry(request)
    span = span_of(place, request) if entry else None
    if entry is None or span is None:
        return None
    actions = tuple(place.route.actions.items())
    compiled = compile_read(viewset, viewset.get_queryset, actions, span.form, entry.caller is None)
    if compiled is None:
        return None
    recording = viewset.recording(action, request, entry.caller)
    parameters = filled(compiled, entry, span.key, named=span.named) + (recording[1] if recording else [])
    parameters.append(str(entry.caller or ""))
    statement = reading(compiled.sql, recording and recording[0], span.limit)
    try:
        rows = ask(entry, statement, parameters, preparing=span.limit in PREPARED)
    except Error as error:
        # The plain way finds out what it is, and mends it if it can; it would only wait as long once more.
        return failure(request, 503, RETRY) if has_waited(error) else None
    if not rows:
        return None
    return record(200, rows[0][1], compiled.allow) if span.form == "=" else page(compiled, rows, request, span)


def span_of(place: Place, request: WSGIRequest) -> Span | None:
    named = next(iter(place.kwargs.values()), 0)
    one = place.action == "retrieve"
    if not request.META["QUERY_STRING"]:
        return Span("=", named, 1) if one else Span("", 0, DEFAULT_LIMIT, None, named)
    try:
        asked = request.GET
    except SuspiciousOperation:  # too many parameters
        return None
    known = {"limit", "cursor"} >= asked.keys() and all(len(values) == 1 for _, values in asked.lists())
    if one or not known:
        return None
    try:
        limit, cursor = read_limit(asked.get("limit")), KEYSET.read(asked.get("cursor"))
    except APIException:
        return None
    if cursor is None:
        return Span("", 0, limit, None, named)
    return Span(">" if cursor.back else "<", cursor.values[0], limit, cursor, named)


def page(compiled: Compiled, rows: list[Row], request: WSGIRequest, span: Span) -> Answer:
    shown = rows[: span.limit][::-1] if span.form == ">" else rows[: span.limit]
    paginator = KeysetPagination()
    paginator.request = request  # type: ignore[assignment]  # all that links need of it
    ends = Cursor((shown[0][0],), back=True), Cursor((shown[-1][0],), back=False)
    links = paginator.link_header(span.cursor, *ends, more=len(rows) > span.limit)
    content = encoded(f"[{','.join(body for _, body in shown)}]")
    return Answer(200, [JSON, ("Allow", compiled.allow), *links.items()], content)
