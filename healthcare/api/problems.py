"""RFC 9457 problem details: the one shape of every error."""

from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, JsonResponse

CONTENT_TYPE = "application/problem+json"

DETAILS = {
    400: "The request cannot be understood.",
    401: "Log in and send the access token as `Authorization: Bearer <token>`.",
    403: "This is not allowed.",
    404: "There is nothing here that you can see.",
    405: "This method is not allowed here; the Allow header names those that are.",
    409: "Something else depends on this.",
    410: "Another record has taken the place of this one; the Link header names it.",
    411: "Send the length of the body in a Content-Length header.",
    412: "The record is not in the state that If-Match or If-None-Match asks for; read it again.",
    413: "The body is too large.",
    415: "Send the body as application/json.",
    422: "This is not what was sent before.",
    429: "Too many attempts; try again after the seconds in the Retry-After header.",
    500: "Something went wrong on our side; quote the request_id when you report it.",
    503: "The service is not available at the moment; try again soon.",
}
# The same in OpenAPI.
TEXT = {"type": "string"}
PROBLEM_ERROR = {
    "type": "object",
    "description": "One thing that is wrong with the request.",
    "properties": {
        "pointer": {**TEXT, "description": "Where, as a JSON pointer (RFC 6901) into the body; empty for all of it."},
        "code": {**TEXT, "description": "What, for programs: `required`, `invalid`, `unique` and the like."},
        "detail": {**TEXT, "description": "What, for people."},
    },
    "required": ["pointer", "code", "detail"],
}
PROBLEM_BODY = {
    "type": "object",
    "description": "An error (RFC 9457).",
    "properties": {
        "type": {**TEXT, "format": "uri-reference", "description": "Always `about:blank`: the status says it all."},
        "title": {**TEXT, "description": "The status in words."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {**TEXT, "description": "What happened, for people."},
        "request_id": {**TEXT, "description": "The same as in `X-Request-Id`; quote it when you report a problem."},
        "errors": {
            "type": "array",
            "items": {"$ref": "#/components/schemas/ProblemError"},
            "description": "With status 400, when single fields are at fault.",
        },
    },
    "required": ["type", "title", "status", "detail", "request_id"],
}


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
) -> JsonResponse:
    """A problem as a Django response, for what happens outside a view."""
    return JsonResponse(
        problem(request, status, detail),
        status=status,
        content_type=CONTENT_TYPE,
        headers=headers or {},
        json_dumps_params={"separators": (",", ":")},
    )
