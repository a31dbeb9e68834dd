"""The WSGI application: answers what is ordinary, and leaves everything else to Django."""

import select
import time
from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from django.core.handlers.wsgi import WSGIRequest
from django.db import connection

from healthcare.api.middleware import error_log, log_answer
from healthcare.fastpath import reads, shared, writes
from healthcare.fastpath.answers import Answer, failure
from healthcare.fastpath.frames import frame_of
from healthcare.fastpath.routes import Place, find

ANSWERING = {"GET": reads.answer, "POST": writes.answer, "PUT": writes.answer, "PATCH": writes.answer}
# Headers that ask for more than an ordinary answer, or that may be refused.
ASKING = {
    "HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_X_CHANGE_REASON", "HTTP_PREFER", "HTTP_IDEMPOTENCY_KEY",
    "HTTP_TRANSFER_ENCODING",
}  # fmt: skip
STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}

WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Door:
    def __init__(self, django: WSGI) -> None:
        self.django = django

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        found = answer(environ)
        if found is None:
            return self.django(environ, start_response)
        start_response(STATUS_LINES[found.status], found.headers)
        return [found.content]


def answer(environ: dict[str, Any]) -> Answer | None:
    """The whole answer to an ordinary request, with every header; None for what Django has to answer."""
    started = time.perf_counter()
    method, length = environ["REQUEST_METHOD"], environ.get("CONTENT_LENGTH") or "0"
    ordinary = method in ANSWERING and not ASKING & environ.keys() and (method != "GET" or length == "0")
    place = find(environ.get("PATH_INFO", ""), method) if ordinary else None
    if place is None:
        return None
    connection.close_if_unusable_or_obsolete()
    frame = frame_of(environ, place.route.template) if is_alive(connection.connection) else None
    if frame is None:
        return None
    request = WSGIRequest(environ)
    request.request_id = uuid4().hex  # type: ignore[attr-defined]
    found = made(place, request)
    if found is None:
        return None
    log_answer(request.method, place.route.template, found.status, started, request.request_id)  # type: ignore[attr-defined]
    its_own = [("Content-Length", str(len(found.content))), ("X-Request-Id", request.request_id)]  # type: ignore[attr-defined]
    return Answer(found.status, [*frame, *found.headers, *its_own], found.content)


def made(place: Place, request: WSGIRequest) -> Answer | None:
    """What is this request's own of the answer."""
    answering = partial(ANSWERING[str(request.method)], place, request)
    try:
        return shared.answer(place, request, answering) if shared.is_shared(place, request.META) else answering()
    except Exception as error:
        error_log.error("unhandled request_id=%s", request.request_id, exc_info=error)  # type: ignore[attr-defined]
        # What may have been written must not be written again.
        return None if request.method == "GET" else failure(request, 500)


def is_alive(session: Any) -> bool:
    """Whether there is a connection, as far as can be told without asking: a server says something of itself only to
    end it. Django opens the next one."""
    if session is None or session.closed:
        return False
    look = select.poll()
    look.register(session.fileno(), select.POLLIN)
    return not look.poll(0)
