"""The project's middleware: one for every request, and Django's page middleware for the requests outside the API."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from corsheaders import middleware as cors
from django.conf import settings
from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.core.exceptions import BadRequest, DisallowedHost, PermissionDenied, SuspiciousOperation
from django.core.signals import got_request_exception
from django.db import IntegrityError
from django.dispatch import receiver
from django.http import Http404, HttpRequest, HttpResponsePermanentRedirect, HttpResponseRedirect
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase
from django.middleware import common, csrf
from django.templatetags.static import static
from django.urls import Resolver404, resolve, reverse
from django.utils.cache import patch_vary_headers
from whitenoise import middleware as whitenoise

from healthcare.api.acting_for import ACTING_FOR_HEADER
from healthcare.api.exceptions import Busy
from healthcare.api.health_checks import HEALTH_CHECKS
from healthcare.api.problems import CONTENT_TYPE, error_format, problem_response
from healthcare.operations import health
from healthcare.operations.access_log import LOGGED, write_access_line
from healthcare.operations.database_errors import forget_sqlstate, last_sqlstate
from healthcare.operations.request_ids import REQUEST_ID_KEY, assign_ids, take_trace_from_opentelemetry
from healthcare.operations.routes import find_route

error_log = logging.getLogger("healthcare.errors")

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)

BODY_HEADERS = {"Content-Type", "Content-Length", "Content-Encoding", "Content-Disposition", "ETag", "Last-Modified"}

ANSWERED_BY_DJANGO = (Http404, PermissionDenied, BadRequest, SuspiciousOperation, MultiPartParserError)


UTF_8 = frozenset({"utf-8", "utf8"})
# Where browsers and tools look for pages of ours: the name of the route, and a query.
USUAL_PLACES = {
    "/docs": ("docs", ""),
    "/swagger": ("docs", ""),
    "/redoc": ("docs", ""),
    "/schema": ("schema", ""),
    "/openapi.json": ("schema", "?format=json"),
    "/openapi.yaml": ("schema", "?format=yaml"),
    "/api/openapi.json": ("schema", "?format=json"),
    "/favicon.ico": ("icon", ""),
}


CLOCKS_DIFFER = (
    "The clocks of the server and of its database differ; wait for the seconds of Retry-After, then repeat it."
)
FILE_CODINGS = {"identity", "gzip", "x-gzip"}  # the content codings of a file (RFC 9110 section 8.4.1)


class Middleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response


class RequestMiddleware(Middleware):
    """The project's own middleware, for requests of the API and of pages.

    Before the view: a request id; 503 while the clocks of this machine and of the database differ; 415 for any charset
    but UTF-8, before anything is decoded; 403 for API calls over plain HTTP where HTTPS is required, since a redirect
    would lose the body of a POST; 411, 413 and 415 for bodies without a length, too large or compressed. After it:
    errors as problems (RFC 9457), the security headers, and one line in the access log. The line contains the route
    and never the path, since a path can identify a person.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        super().__init__(get_response)
        self.requires_https = settings.SECURE_SSL_REDIRECT

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        is_logged_here = LOGGED not in request.META  # under another handler, such as that of Django's test client
        started = time.perf_counter()
        if is_logged_here:
            forget_sqlstate()
        request_id = ensure_request_id(request)
        try:
            response = self.refuse(request) or self.get_response(request)
            if response.status_code >= 400:
                response = as_problem(request, response)
        except Exception as error:  # of this middleware: Django answers those of the others
            log_exception(request, error)
            response = problem_response(request, 500)
        headers = response.headers
        headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        headers.setdefault("Cache-Control", "no-store")  # unless the view says otherwise
        headers["X-Request-Id"] = request_id
        owner = getattr(request, "record_owner", None)
        if owner is not None and owner.role:  # so that no client mistakes whose records it sees or changes
            headers[ACTING_FOR_HEADER] = owner.username
        take_trace_from_opentelemetry(request.META)
        if is_logged_here:
            log_access(request, response, started)
        return response

    def refuse(self, request: HttpRequest) -> HttpResponseBase | None:
        """The error for a request that no other middleware should see; None for all others."""
        meta = request.META
        if health.monitor.clocks_differ() and request.path_info not in HEALTH_CHECKS:
            return problem_response(request, 503, CLOCKS_DIFFER, {"Retry-After": "5"})
        if request.content_params and request.content_params.get("charset", "utf-8").lower() not in UTF_8:
            request.encoding = "utf-8"  # for whatever reads the request later
            return problem_response(request, 415, "Send the body in UTF-8, and name no other charset in Content-Type.")
        protocols = meta.get("HTTP_X_FORWARDED_PROTO", "")
        if "," in protocols:  # Django would take the first, which the client may have sent
            every = all(protocol.strip() == "https" for protocol in protocols.split(","))
            meta["HTTP_X_FORWARDED_PROTO"] = "https" if every else "http"
        if self.requires_https and is_api(request) and not request.is_secure():
            return problem_response(request, 403, "Use https:// for every call.")
        return None

    def process_view(self, request: HttpRequest, view: Any, *_: Any) -> HttpResponseBase | None:
        return refuse_framing(request, accepts_files=getattr(view, "initkwargs", {}).get("accepts_files", False))

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponseBase | None:
        """Log an unhandled exception and answer 503 if the database is unavailable, otherwise 409 or 500.

        None for exceptions that Django answers itself, such as a 403 or 404 of the admin.
        """
        if isinstance(error, ANSWERED_BY_DJANGO):
            return None
        if health.is_fault_of_database(error):
            log_unavailable(request, error)
            return database_unavailable(request)
        if isinstance(error, Busy):  # in the admin
            return problem_response(request, 503, Busy.default_detail, {"Retry-After": "5"})
        if isinstance(error, IntegrityError):  # a foreign key, checked when the transaction commits
            return problem_response(
                request, 409, "A record that this one refers to has just been deleted; refer to another one."
            )
        log_exception(request, error)
        return problem_response(request, 500)


def log_exception(request: HttpRequest, error: BaseException | None) -> None:
    error_log.error("unhandled", exc_info=error, extra={"fields": {"request_id": ensure_request_id(request)}})


def log_unavailable(request: HttpRequest, error: BaseException) -> None:
    fields = {"error": type(error).__name__, "request_id": ensure_request_id(request)}
    error_log.warning("database away", extra={"fields": fields})


def database_unavailable(request: HttpRequest) -> HttpResponseBase:
    return problem_response(request, 503, headers={"Retry-After": "5"})


def ensure_request_id(request: HttpRequest) -> str:
    """The id of the request. The server has assigned it, or it is assigned where the request is seen first."""
    if not hasattr(request, "request_id"):
        request.request_id = request.META.get(REQUEST_ID_KEY) or assign_ids(request.META)  # type: ignore[attr-defined]
    return str(request.request_id)  # type: ignore[attr-defined]


@receiver(got_request_exception)
def log_exception_outside_view(request: HttpRequest | None = None, **_: Any) -> None:
    """Log what a middleware raised: Django answers it without `process_exception`, and its own log is off."""
    error = sys.exception()
    if request is None or error is None:
        return
    if health.is_fault_of_database(error):
        log_unavailable(request, error)
        request.is_database_unavailable = True  # type: ignore[attr-defined]  # for `as_problem`
    else:
        log_exception(request, error)


def refuse_framing(request: HttpRequest, *, accepts_files: bool = False) -> HttpResponseBase | None:
    """The error for a body whose length, size or encoding is not accepted (RFC 9112 section 6); None if it is.

    A view that accepts files takes large ones, and such that are packed with gzip.
    """
    meta = request.META
    length = meta.get("CONTENT_LENGTH", "")
    if not length and (request.method in {"PUT", "PATCH"} or "HTTP_TRANSFER_ENCODING" in meta):
        return problem_response(request, 411)  # WSGI would pass on an empty body
    if length and not (length.isascii() and length.isdigit()):
        return problem_response(request, 400, "Send a number as Content-Length.")
    largest = settings.LARGEST_FILE if accepts_files else settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if length and int(length[:20]) > largest:
        return problem_response(request, 413)
    coding = meta.get("HTTP_CONTENT_ENCODING", "identity").strip().lower()
    if accepts_files and coding not in FILE_CODINGS:
        return problem_response(request, 415, "Send the file as it is, or with `Content-Encoding: gzip`.")
    if not accepts_files and coding != "identity":
        return problem_response(request, 415, "Send the body without a Content-Encoding.")
    return None


def as_problem(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """The error as a problem, also with DEBUG on. The admin keeps its own pages for errors below 500, and the one for
    a list that takes too long."""
    if response.status_code == 404 and (page := find_page(request)):
        return HttpResponseRedirect(page)
    if response.status_code == 500 and getattr(request, "is_database_unavailable", False):
        return database_unavailable(request)
    in_admin = request.path_info.startswith("/admin/")
    own_page = in_admin and (response.status_code < 500 or getattr(response, "is_page_for_staff", False))
    other = error_format(request.path_info)
    if own_page or response.get("Content-Type") == (other.content_type if other else CONTENT_TYPE):
        return response
    detail = ""
    if response.status_code == 404:
        detail = missing_slash(request)
    elif response.status_code == 400:
        detail = unknown_host(request)
    # The headers of other middleware stay: CORS, the policies, Allow, Retry-After.
    headers = {name: value for name, value in response.items() if name not in BODY_HEADERS}
    return problem_response(request, response.status_code, detail, headers)


def log_access(request: HttpRequest, response: HttpResponseBase, started: float) -> None:
    """Write the line of the access log, for a streaming answer when it ends. `started` is of `time.perf_counter`."""
    if not response.streaming:
        write_line(request, response, started, len(response.content))  # type: ignore[attr-defined]
        return
    streaming: Any = response
    request.META[LOGGED] = True
    size = 0

    def counted(chunks: Iterable[bytes]) -> Iterator[bytes]:
        nonlocal size
        try:
            for chunk in chunks:
                size += len(chunk)
                yield chunk
        except GeneratorExit:  # the client has closed the connection
            raise
        except BaseException:
            response.status_code = 500  # the server answers so
            raise

    streaming.streaming_content = counted(streaming.streaming_content)
    streaming._resource_closers.append(lambda: write_line(request, response, started, size))


def write_line(request: HttpRequest, response: HttpResponseBase, started: float, size: int) -> None:
    write_access_line(
        request.META,
        response.status_code,
        route=find_route(request),
        duration_us=int((time.perf_counter() - started) * 1_000_000),
        size=0 if request.method == "HEAD" else size,
        caller=getattr(request, "caller", None),
        sqlstate=last_sqlstate(),
        served_by=getattr(request, "served_by", "standard"),
    )


def missing_slash(request: HttpRequest) -> str:
    """The detail of a 404 for a path that lacks only its trailing slash; empty for any other path."""
    if request.path_info.endswith("/"):
        return ""
    try:
        resolve(f"{request.path_info}/")
    except Resolver404:
        return ""
    return f"Every path ends in a slash: send this to {request.path_info}/ instead."


def find_page(request: HttpRequest) -> str:
    """The page that a browser meant by a path without its slash, or that it looks for at a usual place; else empty.

    Records of the API are no pages: the 404 names the right path, so that a client corrects it once for all methods.
    """
    path = request.path_info
    if request.method not in {"GET", "HEAD"}:
        return ""
    if path.rstrip("/") in USUAL_PLACES:
        name, query = USUAL_PLACES[path.rstrip("/")]
        return static("healthcare/icon.svg") if name == "icon" else reverse(name) + query
    if path.endswith("/") or path.startswith("//"):
        return ""
    try:
        match = resolve(f"{path}/")
    except Resolver404:
        return ""
    of_admin = match.app_name == "admin" and match.url_name  # its catch-all has no name
    if not (of_admin or getattr(getattr(match.func, "view_class", match.func), "is_page", False)):
        return ""
    arguments = request.META.get("QUERY_STRING")
    return f"{request.path}/?{arguments}" if arguments else f"{request.path}/"


def unknown_host(request: HttpRequest) -> str:
    """The detail of a 400 for a Host that ALLOWED_HOSTS does not name; empty for any other request."""
    try:
        request.get_host()
    except DisallowedHost:
        if settings.DEBUG:
            return "This server does not know the name in the Host header; add it to ALLOWED_HOSTS."
        return "This server does not answer to the name in the Host header; use the one it is published under."
    return ""


def is_api(request: HttpRequest) -> bool:
    """Whether the request comes from a program, which sends a token and no cookies."""
    return request.path_info.startswith("/api/") or error_format(request.path_info) is not None


class OutsideAPI:
    """Lets API requests skip a middleware of Django, since they need no cookies and no static files.

    Of several such middlewares in a row, the first one skips all.
    """

    after_pages: Callable[[HttpRequest], HttpResponseBase]

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        super().__init__(get_response)  # type: ignore[call-arg]  # of Django's middleware
        # Django wraps each middleware in a function whose `__wrapped__` it is.
        following = getattr(get_response, "__wrapped__", None)
        self.after_pages = following.after_pages if isinstance(following, OutsideAPI) else get_response

    def __call__(self, request: HttpRequest) -> Any:
        return self.after_pages(request) if is_api(request) else super().__call__(request)  # type: ignore[misc]


class CommonMiddleware(common.CommonMiddleware):
    """Django's, but for the health checks: they answer for any Host, since orchestrators send an address."""

    def process_request(self, request: HttpRequest) -> HttpResponsePermanentRedirect | None:
        return None if request.path_info in HEALTH_CHECKS else super().process_request(request)


class CorsMiddleware(cors.CorsMiddleware):
    """django-cors-headers', which parses all headers of a request, for requests from pages alone."""

    async_capable = False  # Django adapts an asynchronous middleware that follows

    def __call__(self, request: HttpRequest) -> Any:
        if "HTTP_ORIGIN" in request.META:
            return super().__call__(request)
        response: Any = self.get_response(request)
        patch_vary_headers(response, ("origin",))
        return response


class WhiteNoiseMiddleware(OutsideAPI, whitenoise.WhiteNoiseMiddleware):  # type: ignore[misc]  # it has no types
    pass


class SessionMiddleware(OutsideAPI, sessions.SessionMiddleware):
    pass


class CsrfViewMiddleware(OutsideAPI, csrf.CsrfViewMiddleware):
    def process_view(self, request: HttpRequest, *args: Any) -> Any:
        return None if is_api(request) else super().process_view(request, *args)


class AuthenticationMiddleware(OutsideAPI, auth.AuthenticationMiddleware):
    pass


class MessageMiddleware(OutsideAPI, messages.MessageMiddleware):
    pass
