"""Exceptions for statuses that DRF has none for, and a shortcut for ValidationError."""

import re
from collections.abc import Iterable
from typing import Any

from rest_framework import exceptions

# A name that a client sends is repeated in the error only if it looks like one; anything else could be data.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", re.ASCII)


class Conflict(exceptions.APIException):
    status_code = 409
    default_detail = "Another record depends on this one; remove or end that one first."
    default_code = "conflict"

    def __init__(self, detail: str | None = None, **members: Any) -> None:
        """`members` are added to the problem (RFC 9457 section 3.2)."""
        super().__init__(detail)
        self.members = members


class Duplicate(Conflict):
    """The new record likely duplicates an existing one."""

    default_detail = "A likely duplicate exists; use it, or repeat the request without `on_duplicate=reject`."


class Gone(exceptions.APIException):
    """Another record has replaced this one (RFC 9110 section 15.5.11, RFC 5829 section 3.4)."""

    status_code = 410
    default_detail = "Another record has replaced this one; use the path in the Link header."
    default_code = "gone"

    def __init__(self, successor: str) -> None:
        """`successor` is the path of the other record; empty if that one has been deleted."""
        super().__init__(None if successor else "Another record has replaced this one, and that one has been deleted.")
        self.link = f'<{successor}>; rel="successor-version"' if successor else ""


class PreconditionFailed(exceptions.APIException):
    status_code = 412
    default_detail = "The record does not match If-Match or If-None-Match; read it again and repeat the request."
    default_code = "precondition_failed"


class PayloadTooLarge(exceptions.APIException):
    status_code = 413
    default_detail = "The body is too large; send a smaller one."
    default_code = "too_large"


class DatabaseUnavailable(exceptions.APIException):
    status_code = 503
    default_detail = "The database is not available; repeat the request after the seconds in the Retry-After header."
    default_code = "unavailable"


class Busy(exceptions.APIException):
    """Too many passwords are being hashed. Nothing was counted or changed."""

    status_code = 503
    default_detail = "Too many people are logging in; repeat the request after the seconds in the Retry-After header."
    default_code = "busy"


class NotConfigured(exceptions.NotFound):
    """What this path does is not configured on this server."""


class LimitedErrors(exceptions.ValidationError):
    """The first errors of a request that has `count` of them, so that a body of unknown keys gets a short answer."""

    LIMIT = 20

    def __init__(self, detail: Any, count: int) -> None:
        super().__init__(detail)
        self.count = count


class CountedError(exceptions.ValidationError):
    """A 400 after which the request's transaction commits: it has counted the error, and written nothing else."""


def refuse(names: Iterable[str], code: str, detail: str) -> None:
    """Raise ValidationError (400) with an error for each of these names; do nothing if there are none."""
    names = {name if NAME.fullmatch(name) else "non_field_errors" for name in names}
    if names:
        raise exceptions.ValidationError({name: [exceptions.ErrorDetail(detail, code)] for name in sorted(names)})
