"""What happens around every request, in the API, the admin and the pages alike."""

import logging
import time
from collections.abc import Callable
from http import HTTPMethod
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.db import IntegrityError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve
from django.utils.deprecation import MiddlewareMixin

from healthcare.api.problems import CONTENT_TYPE, problem_response

access_log = logging.getLogger("healthcare.access")
error_log = logging.getLogger("healthcare.errors")

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)

OF_THE_BODY = {"Content-Type", "Content-Length", "Content-Encoding", "Content-Disposition", "ETag", "Last-Modified"}

ANSWERED_BY_DJANGO = (Http404, PermissionDenied, BadRequest, SuspiciousOperation, MultiPartParserError)


class Middleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response


class RequestIdMiddleware(Middleware):
    """Gives every request an id and logs one line: the route, never the path, which can name a person."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.request_id = uuid4().hex  # type: ignore[attr-defined]
        started = time.perf_counter()
        response = self.get_response(request)
        response["X-Request-Id"] = request.request_id  # type: ignore[attr-defined]
        if not hasattr(request, "rehearsed"):
            match = request.resolver_match
            route = match.route if match else "-"
            log_answer(request.method, route, response.status_code, started, request.request_id)  # type: ignore[attr-defined]
        return response


def log_answer(method: str | None, route: str, status: int, started: float, request_id: str) -> None:
    """`started` is what `time.perf_counter` said when the request came."""
    access_log.info(
        "%s /%s %d %d ms request_id=%s",
        method if method in HTTPMethod.__members__ else "-",  # a client may send any word
        route,
        status,
        (time.perf_counter() - started) * 1000,
        request_id,
    )


class ProblemMiddleware(Middleware):
    """Gives every error from outside DRF the one shape too, with DEBUG on as well. The admin keeps its own pages."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        own_page = request.path_info.startswith("/admin/") and response.status_code < 500
        if response.status_code < 400 or own_page or response.get("Content-Type") == CONTENT_TYPE:
            return response
        detail = missing_slash(request) if response.status_code == 404 else ""
        # The other middleware's headers stay: whom CORS lets in, the policies, Allow, Retry-After.
        kept = {name: value for name, value in response.items() if name not in OF_THE_BODY}
        return problem_response(request, response.status_code, detail, kept)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponseBase | None:
        """Answers 503 when the database is away, 500 for a defect of ours, and logs which it was. None for what is
        neither, such as a 403 or 404 of the admin: Django answers it."""
        if isinstance(error, ANSWERED_BY_DJANGO):
            return None
        outage = isinstance(error, OperationalError | InterfaceError)
        if outage:
            error_log.warning("database away: %s request_id=%s", type(error).__name__, request.request_id)  # type: ignore[attr-defined]
            return problem_response(request, 503, headers={"Retry-After": "5"})
        if isinstance(error, IntegrityError):  # a foreign key, checked when the transaction commits
            return problem_response(request, 409, "Something this refers to has just been removed.")
        error_log.error("unhandled request_id=%s", request.request_id, exc_info=error)  # type: ignore[attr-defined]
        return problem_response(request, 500)


def missing_slash(request: HttpRequest) -> str:
    """For a path that only lacks its last slash, a sentence that names the right one. Nothing is redirected."""
    if request.path_info.endswith("/"):
        return ""
    try:
        resolve(f"{request.path_info}/")
    except Resolver404:
        return ""
    return f"Every path ends in a slash: send this to {request.path_info}/ instead."


class HTTPSRequiredMiddleware(Middleware):
    """Refuses API calls over plain HTTP where HTTPS is required: a redirect would lose the body of a POST."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if settings.SECURE_SSL_REDIRECT and request.path_info.startswith("/api/") and not request.is_secure():
            return problem_response(request, 403, "Use https:// for every call.")
        return self.get_response(request)


def for_pages(middleware: type[MiddlewareMixin]) -> type[MiddlewareMixin]:
    """The middleware for the admin and the pages alone: the API knows its callers by their tokens."""

    def call(self: Any, request: HttpRequest) -> Any:
        api = request.path_info.startswith("/api/")
        return self.get_response(request) if api else middleware.__call__(self, request)

    return type(middleware.__name__, (middleware,), {"__call__": call})


SessionMiddleware = for_pages(sessions.SessionMiddleware)
AuthenticationMiddleware = for_pages(auth.AuthenticationMiddleware)
MessageMiddleware = for_pages(messages.MessageMiddleware)


class SecurityHeadersMiddleware(Middleware):
    """A strict Content-Security-Policy everywhere; API answers stay out of every cache unless they say otherwise."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        response.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        response.setdefault("Cache-Control", "no-store")
        return response


class FramingMiddleware(Middleware):
    """411 for a body without a length, which WSGI hands over empty; 413 for one too large; 415 for a compressed one."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        length = request.META.get("CONTENT_LENGTH", "")
        if not length and (request.method in {"PUT", "PATCH"} or "HTTP_TRANSFER_ENCODING" in request.META):
            return problem_response(request, 411)
        if length and not (length.isascii() and length.isdigit()):
            return problem_response(request, 400, "Content-Length is not a number.")
        if length and int(length[:20]) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            return problem_response(request, 413)
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            return problem_response(request, 415, "Send the body without a Content-Encoding.")
        return self.get_response(request)
