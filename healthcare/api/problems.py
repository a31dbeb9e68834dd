"""RFC 9457 problem details: the format of every error, but for paths that have one of their own (`ErrorFormat`)."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from http import HTTPStatus
from typing import Any

from corsheaders.middleware import CorsMiddleware
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.security import SecurityMiddleware

from healthcare.operations.request_ids import REQUEST_ID_KEY, REQUEST_ID_PATTERN, assign_ids

CONTENT_TYPE = "application/problem+json"
ID_PLACEHOLDER = "{request_id}"
# Of an answer that is given outside Django, whose middleware sets them otherwise.
SAFE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

DETAILS = {
    400: "The request is malformed; correct it before you send it again.",
    401: "Log in and send the access token as `Authorization: Bearer <token>`.",
    403: "You do not have permission for this request.",
    404: "This does not exist, or you have no access to it.",
    405: "This path does not support the method; use one from the Allow header.",
    406: "This path answers other types; send one of them, or */*, in Accept.",
    408: "The body did not arrive in time; send the request again, all of it at once.",
    409: "The request conflicts with another record or request; read both again and resolve the conflict.",
    410: "Another record has replaced this one; use the path in the Link header.",
    411: "Send the length of the body in a Content-Length header.",
    412: "The record does not match If-Match or If-None-Match; read it again and repeat the request.",
    413: "The body is too large; send a smaller one.",
    415: "Send the body as application/json.",
    422: "This Idempotency-Key was used for another request; send a new key.",
    429: "Too many requests; try again after the seconds in the Retry-After header.",
    500: "Something went wrong on our side; quote the request_id when you report it.",
    503: "The service is not available at the moment; try again soon.",
}


@dataclass(frozen=True)
class ErrorFormat:
    """How errors are written below a path whose clients speak another protocol."""

    prefix: str  # of the path, between slashes: `/fhir/`
    content_type: str
    render: Callable[[dict[str, Any]], str]  # gets the problem


OTHER_FORMATS: list[ErrorFormat] = []  # an app adds its own in `AppConfig.ready`


def error_format(path: str) -> ErrorFormat | None:
    """The format of errors below this path; None for problems."""
    return next((one for one in OTHER_FORMATS if f"{path}/".startswith(one.prefix)), None)


# The JSON Schemas of a problem, for OpenAPI.
TEXT = {"type": "string"}
PROBLEM_ERROR = {
    "type": "object",
    "description": "One error in the request.",
    "properties": {
        "pointer": {
            **TEXT,
            "description": "JSON pointer (RFC 6901) to the field in the body; empty for the whole body.",
        },
        "code": {
            **TEXT,
            "description": "The kind of error, for programs: `required`, `invalid` or `unique`, for example.",
        },
        "detail": {**TEXT, "description": "What to correct, for people."},
    },
    "required": ["pointer", "code", "detail"],
}
PROBLEM_BODY = {
    "type": "object",
    "description": "An error (RFC 9457).",
    "properties": {
        "type": {
            **TEXT,
            "format": "uri-reference",
            "description": "Always `about:blank` (RFC 9457 section 4.2.1): the status tells the type.",
        },
        "title": {**TEXT, "description": "The reason phrase of the status."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {**TEXT, "description": "What happened and what to do, for people."},
        "request_id": {
            **TEXT,
            "pattern": REQUEST_ID_PATTERN,
            "description": "Equals the header `X-Request-Id`; quote it when you report a problem.",
        },
        "errors": {
            "type": "array",
            "items": {"$ref": "#/components/schemas/ProblemError"},
            "description": "With status 400: the first errors of single fields and parameters, at most 20.",
        },
        "error_count": {"type": "integer", "minimum": 1, "description": "With `errors`: how many there are in all."},
        "code": {
            **TEXT,
            "description": "With some 401, 403, 404 and 409 what is wrong, for programs: `otp_required`, "
            "`not_a_delegate`, `role_too_low`, `last_manager` or `records_left`, for example.",
        },
        "records": {
            "type": "object",
            "additionalProperties": {"type": "integer", "minimum": 1},
            "description": "With the code `records_left`: how many records there are, by kind.",
        },
    },
    "required": ["type", "title", "status", "detail", "request_id"],
}


def last_resort(environ: dict[str, Any]) -> tuple[str, dict[str, str], bytes]:
    """The status line, the headers and the body of a 500 for an exception outside Django, where there is no request."""
    headers, body = problem_without_request(environ, 500)
    return "500 Internal Server Error", headers, body


def problem_without_request(environ: dict[str, Any], status: int, detail: str = "") -> tuple[dict[str, str], bytes]:
    """The headers and the body of a problem, for an answer that is given outside Django."""
    request_id = environ.get(REQUEST_ID_KEY) or assign_ids(environ)
    other = error_format(environ.get("PATH_INFO", ""))
    body = problem_template(status, detail, other=other).replace(ID_PLACEHOLDER, request_id).encode()
    headers = headers_of_middleware(environ.get("HTTP_ORIGIN", ""), environ.get("HTTP_X_FORWARDED_PROTO", ""))
    if other:
        headers = headers | {"Content-Type": other.content_type}
    return {**headers, "Content-Length": str(len(body)), "X-Request-Id": request_id}, body


# Both are cached: an overloaded server sends thousands of problems in a second.


@cache
def problem_template(
    status: int, detail: str, failed: tuple[str, ...] = (), *, other: ErrorFormat | None = None
) -> str:
    """The body of a problem but for its request id. `failed` are the checks that a health check names."""
    request = HttpRequest()
    request.request_id = ID_PLACEHOLDER  # type: ignore[attr-defined]
    content = problem(request, status, detail) | ({"failed": [*failed]} if failed else {})
    return other.render(content) if other else json.dumps(content, separators=(",", ":"))


@lru_cache(maxsize=64)
def headers_of_middleware(origin: str, protocol: str) -> dict[str, str]:
    """The headers that middleware gives every problem, so that a page of an allowed origin can read it."""
    request = HttpRequest()
    request.META = {"HTTP_ORIGIN": origin, "HTTP_X_FORWARDED_PROTO": protocol}
    response = HttpResponse(headers={"Content-Type": CONTENT_TYPE, **SAFE_HEADERS})
    CorsMiddleware(lambda request: response).add_response_headers(request, response)
    SecurityMiddleware(lambda request: response).process_response(request, response)
    return dict(response.items())


def problem(
    request: HttpRequest, status: int, detail: str = "", errors: list[dict[str, str]] | None = None
) -> dict[str, Any]:
    """The body of a problem: type, title, status, detail, request_id, and `errors` for bad input."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail or DETAILS.get(status, HTTPStatus(status).description or HTTPStatus(status).phrase),
        "request_id": getattr(request, "request_id", ""),
    }
    return body if errors is None else body | {"errors": errors}


def problem_response(
    request: HttpRequest, status: int, detail: str = "", headers: dict[str, str] | None = None
) -> HttpResponse:
    """A problem as a Django response, for code that runs outside a DRF view."""
    other = error_format(request.path_info)
    if other:
        content = other.render(problem(request, status, detail))
        return HttpResponse(content, status=status, content_type=other.content_type, headers=headers or {})
    return JsonResponse(
        problem(request, status, detail),
        status=status,
        content_type=CONTENT_TYPE,
        headers=headers or {},
        json_dumps_params={"separators": (",", ":")},
    )
