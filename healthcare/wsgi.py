"""The WSGI entry point: `healthcare.wsgi:application`."""

import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http import HttpRequest
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "healthcare.settings")
django.setup(set_prefix=False)

from healthcare.api.middleware import as_problem, ensure_request_id, log_access  # noqa: E402  (needs the settings)
from healthcare.api.problems import last_resort  # noqa: E402
from healthcare.api.unknown_parameters import known_parameters  # noqa: E402  (needs the apps)
from healthcare.operations import metrics  # noqa: E402
from healthcare.operations.access_log import LOGGED, write_access_line  # noqa: E402
from healthcare.operations.database_errors import forget_sqlstate, last_sqlstate  # noqa: E402
from healthcare.operations.request_ids import REQUEST_ID_KEY, assign_ids  # noqa: E402
from healthcare.operations.routes import find_route, route_of_environ  # noqa: E402  (needs the settings)

UNKNOWN_CHARSET = "unknown"


class Request(WSGIRequest):
    """Django's, but a charset that Python has no text codec for is an error of the client.

    A parameter may name its own (RFC 8187), and Django decodes it while it creates the request, outside its handlers.
    """

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            super()._set_content_type_params(meta)  # type: ignore[misc]
        except (LookupError, ValueError):
            # `RequestMiddleware` answers 415.
            self.content_type, self.content_params = "", {"charset": UNKNOWN_CHARSET}

    def _load_post_and_files(self) -> None:
        try:
            super()._load_post_and_files()
        except LookupError as error:
            self._mark_post_parse_error()  # type: ignore[attr-defined]
            raise MultiPartParserError("unknown charset") from error


class Handler(WSGIHandler):
    request_class = Request

    def get_response(self, request: HttpRequest) -> HttpResponseBase:
        """Make a problem of the error of a middleware that runs outside `RequestMiddleware`. Log the request."""
        started = time.perf_counter()
        response = super().get_response(request)
        find_route(request)  # stays in the WSGI environment, for code outside Django
        if "X-Request-Id" not in response.headers:
            if response.status_code >= 400:
                response = as_problem(request, response)
                response.headers["Cache-Control"] = "no-store"
            response.headers["X-Request-Id"] = ensure_request_id(request)
        log_access(request, response, started)
        return response

    def __call__(  # type: ignore[override]
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        started = time.perf_counter()
        if REQUEST_ID_KEY not in environ:
            assign_ids(environ)  # before a middleware for tracing reads the headers
        environ[LOGGED] = False
        forget_sqlstate()
        try:
            return super().__call__(environ, start_response)
        except Exception:  # raised before the middleware, or by a receiver of a signal
            status, headers, body = last_resort(environ)
            logging.getLogger("healthcare.errors").error(
                "unhandled outside the middleware",
                exc_info=True,
                extra={"fields": {"request_id": headers["X-Request-Id"]}},
            )
            duration_us = int((time.perf_counter() - started) * 1_000_000)
            write_access_line(
                environ,
                500,
                route=route_of_environ(environ),
                duration_us=duration_us,
                size=len(body),
                sqlstate=last_sqlstate(),
            )
            start_response(status, list(headers.items()))
            return [body]


application = Handler()

if settings.METRICS and not metrics.worker:
    logging.getLogger("healthcare.metrics").warning(
        "METRICS has no effect: manage.py serve alone serves the metrics, and this is another server."
    )

known_parameters()  # builds the OpenAPI description now, so that the first request does not wait for it
