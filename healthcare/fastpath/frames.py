"""What the middleware adds to an ordinary answer: asked of itself once for all requests with the same headers."""

from functools import cache
from typing import Any

from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http import HttpRequest, HttpResponse

Frame = tuple[tuple[str, str], ...]

# Headers that no middleware reads, and that differ from one request to the next.
FREE = frozenset(
    {"HTTP_AUTHORIZATION", "HTTP_REFERER", "HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP", "HTTP_X_REQUEST_ID",
     "HTTP_TRACEPARENT", "HTTP_TRACESTATE"}
)  # fmt: skip
READ = ("REQUEST_METHOD", "SCRIPT_NAME", "CONTENT_TYPE", "SERVER_NAME", "SERVER_PORT", "wsgi.url_scheme")
ITS_OWN = {"Content-Type", "Content-Length", "X-Request-Id"}  # every answer's
MOST, LONGEST = 1024, 4096  # frames that are kept, and characters of the headers that they are kept for

_kept: dict[Any, Frame] = {}


class Empty(WSGIHandler):
    """Django with all of its middleware, around an answer that says nothing."""

    def _get_response(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(content_type="application/json")


@cache
def empty() -> Empty:
    return Empty()


def frame_of(environ: dict[str, Any], template: str) -> Frame | None:
    """The headers beside an answer's own; None where the middleware would answer by itself."""
    asked = tuple([item for item in environ.items() if item[0][:5] == "HTTP_" and item[0] not in FREE])
    key = (template, asked, *map(environ.get, READ))
    return _kept.get(key) or ask(key, environ)


def ask(key: Any, environ: dict[str, Any]) -> Frame | None:
    request = WSGIRequest(environ)
    request.rehearsed = True  # type: ignore[attr-defined]
    response = empty().get_response(request)
    if response.status_code != 200 or response.cookies:
        return None
    frame = tuple((name, value) for name, value in response.items() if name not in ITS_OWN)
    if len(repr(key)) <= LONGEST:
        if len(_kept) >= MOST:
            _kept.clear()
        _kept[key] = frame
    return frame


def forget() -> None:
    """Of settings that have changed, as they do in tests alone."""
    _kept.clear()
    empty.cache_clear()
