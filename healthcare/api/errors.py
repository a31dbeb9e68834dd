"""The one exception handler: convert what is not DRF's, let DRF answer, then reshape to a problem (RFC 9457)."""

from collections.abc import Iterator
from typing import Any

from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent
from django.db import DataError, IntegrityError, InterfaceError, OperationalError
from django.db.models import ProtectedError, RestrictedError
from django.http import UnreadablePostError
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_exception_handler

from healthcare.api.exceptions import Conflict, Gone, PayloadTooLarge, Unavailable
from healthcare.api.idempotency import KeyReused, Replayed, UnderWay
from healthcare.api.integrity_errors import broken_rule
from healthcare.api.problems import CONTENT_TYPE, problem

# Texts in place of DRF's own, which repeat the value that was sent.
SAFE_DETAILS = {
    "invalid_choice": "This is not one of the choices.",
    "does_not_exist": "There is no such record.",
    "incorrect_type": "This is not an id.",
    "not_a_list": "This is not a list.",
}

SAID_HERE: tuple[type[exceptions.APIException], ...] = (
    Conflict,
    PayloadTooLarge,
    Unavailable,
    KeyReused,
    UnderWay,
    exceptions.ParseError,
    exceptions.AuthenticationFailed,
)


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Answer an exception of a view as a problem; None for a defect of ours, which becomes a 500."""
    if isinstance(exc, Replayed):
        return exc.response
    converted = convert(exc)
    response = drf_exception_handler(converted, context)
    if response is None:
        return None
    request = context["request"]
    if isinstance(converted, exceptions.ValidationError):
        errors = list(flatten(converted.detail))
        detail = "The request has an error." if len(errors) == 1 else f"The request has {len(errors)} errors."
        response.data = problem(request, 400, detail, errors)
    else:
        # Only texts that were written here; DRF's own name what was sent.
        said = converted.detail if isinstance(converted, SAID_HERE) else ""
        response.data = problem(request, response.status_code, str(said) if isinstance(said, str) else "")
        response.data |= getattr(converted, "members", {})
    if response.status_code == 503:
        response["Retry-After"] = "5"
    if isinstance(converted, Gone):
        response["Link"] = converted.link
    response.content_type = CONTENT_TYPE
    return response


def convert(exc: Exception) -> Exception:
    """The API's exception for one of Django's or the database's; itself when there is none."""
    if isinstance(exc, IntegrityError):
        return broken_rule(exc) or exc
    if isinstance(exc, ProtectedError | RestrictedError):
        return Conflict()
    if isinstance(exc, OperationalError | InterfaceError):
        return Unavailable()
    if isinstance(exc, DataError):
        return exceptions.ParseError("A value is out of range.")
    if isinstance(exc, RequestDataTooBig | TooManyFieldsSent):
        return PayloadTooLarge()
    if isinstance(exc, UnreadablePostError):
        return exceptions.ParseError("The body ended before its Content-Length.")
    return exc


def flatten(detail: Any, pointer: str = "") -> Iterator[dict[str, str]]:
    """Every single error with its JSON pointer (RFC 6901); what concerns the whole body has the pointer ``""``."""
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
        yield {"pointer": pointer, "code": code, "detail": SAFE_DETAILS.get(code, str(detail))}
