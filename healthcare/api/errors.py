"""The exception handler: converts Django's and the database's exceptions, and answers with a problem (RFC 9457)."""

from collections.abc import Iterator
from typing import Any

from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent
from django.db import DataError, IntegrityError, connection
from django.db.models import ProtectedError, RestrictedError
from django.http import UnreadablePostError
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_exception_handler

from healthcare.api.exceptions import (
    Busy,
    Conflict,
    CountedError,
    DatabaseUnavailable,
    Gone,
    LimitedErrors,
    NotConfigured,
    PayloadTooLarge,
)
from healthcare.api.idempotency import AnsweredBefore, AnswerErased, FirstRequestRunning, KeyReused
from healthcare.api.integrity_errors import broken_rule
from healthcare.api.problems import CONTENT_TYPE, problem
from healthcare.api.rate_limits import RateLimited
from healthcare.operations import health

# These replace DRF's own texts, which repeat the value that was sent. A text that begins with one of OWN_DETAILS is our
# own.
OWN_DETAILS = ("There is no such ", "Write ")
SAFE_DETAILS = {
    "invalid_choice": "Send one of the allowed values.",
    "does_not_exist": "There is no such record.",
    "incorrect_type": "Send an id, which is a positive whole number.",
    "not_a_list": "Send a list.",
}

# Exceptions whose texts this project wrote; those of others could repeat what was sent.
SAFE_EXCEPTIONS: tuple[type[exceptions.APIException], ...] = (
    Conflict,
    Gone,
    PayloadTooLarge,
    DatabaseUnavailable,
    Busy,
    NotConfigured,
    KeyReused,
    AnswerErased,
    FirstRequestRunning,
    exceptions.ParseError,
    exceptions.AuthenticationFailed,
    exceptions.PermissionDenied,
)


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """The problem for an exception of a view. None for an unexpected exception: `RequestMiddleware` answers 500."""
    if isinstance(exc, AnsweredBefore):
        return exc.response
    converted = convert(exc, context["request"])
    response = drf_exception_handler(converted, context)
    if response is None:
        return None
    if isinstance(converted, CountedError) and connection.in_atomic_block:
        connection.set_rollback(False)  # DRF has set it
    request = context["request"]
    if isinstance(converted, exceptions.ValidationError):
        response.data = validation_problem(request, converted)
    else:
        detail = converted.detail if isinstance(converted, SAFE_EXCEPTIONS) else ""
        response.data = problem(request, response.status_code, detail if isinstance(detail, str) else "")
        response.data |= getattr(converted, "members", {})
    if response.status_code == 503:
        response["Retry-After"] = "5"
    if isinstance(converted, RateLimited):
        for name, value in converted.headers.items():
            response[name] = value
    if isinstance(converted, Gone) and converted.link:
        response["Link"] = converted.link
    response.content_type = CONTENT_TYPE
    return response


def validation_problem(request: Any, error: exceptions.ValidationError) -> dict[str, Any]:
    """The problem of bad input. `detail` repeats the first error, since many clients show nothing else."""
    errors = list(flatten(error.detail))
    count = error.count if isinstance(error, LimitedErrors) else len(errors)
    first = errors[0] if errors else {"pointer": "", "detail": ""}
    name = first["pointer"].removeprefix("/").replace("/", ".").replace("~1", "/").replace("~0", "~")
    detail = f"{name}: {first['detail']}" if name else first["detail"]
    return problem(request, 400, detail, errors[: LimitedErrors.LIMIT]) | {"error_count": count}


def convert(exc: Exception, request: Any) -> Exception:
    """The API's exception for one of Django's or the database's; the exception itself if there is none."""
    if isinstance(exc, IntegrityError):
        return broken_rule(exc, fields_sent(request)) or exc
    if isinstance(exc, ProtectedError | RestrictedError):
        return Conflict()
    if health.is_fault_of_database(exc):
        return DatabaseUnavailable()
    if isinstance(exc, DataError):
        return exceptions.ParseError("A value is out of range; send one that the field allows.")
    if isinstance(exc, RequestDataTooBig | TooManyFieldsSent):
        return PayloadTooLarge()
    if isinstance(exc, UnreadablePostError):
        return exceptions.ParseError("The body is shorter than its Content-Length; send all of it.")
    return exc


def fields_sent(request: Any) -> frozenset[str]:
    """The fields of the body, if it has been parsed."""
    body = getattr(request, "_full_data", None)
    return frozenset(body) if isinstance(body, dict) else frozenset()


def flatten(detail: Any, pointer: str = "") -> Iterator[dict[str, str]]:
    """Each error with its JSON pointer (RFC 6901); an error of the whole body has the pointer ``""``."""
    if isinstance(detail, dict):
        for key, value in detail.items():
            step = "" if key == "non_field_errors" else "/" + str(key).replace("~", "~0").replace("/", "~1")
            yield from flatten(value, pointer + step)
    elif isinstance(detail, list):
        for index, value in enumerate(detail):
            nested = isinstance(value, dict | list)
            yield from flatten(value, f"{pointer}/{index}" if nested else pointer)
    else:
        code = getattr(detail, "code", "invalid")
        text = str(detail)
        yield {
            "pointer": pointer,
            "code": code,
            "detail": text if text.startswith(OWN_DETAILS) else SAFE_DETAILS.get(code, text),
        }
