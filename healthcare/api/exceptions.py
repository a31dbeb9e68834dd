"""Answers that DRF has no exception for, and one way to raise those it has."""

import re
from collections.abc import Iterable
from typing import Any

from rest_framework import exceptions

# What may be a name is repeated in the answer; anything else that a client sends in its place is not.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", re.ASCII)


class Conflict(exceptions.APIException):
    status_code = 409
    default_detail = "Something else depends on this."
    default_code = "conflict"


class Duplicate(Conflict):
    """What is to be added is likely there already; `members` are added to the problem (RFC 9457 section 3.2)."""

    default_detail = "This is likely there already."

    def __init__(self, **members: Any) -> None:
        super().__init__()
        self.members = members


class Gone(exceptions.APIException):
    """Another record has taken the place of this one (RFC 9110 section 15.5.11, RFC 5829 section 3.4)."""

    status_code = 410
    default_detail = "Another record has taken the place of this one; the Link header names it."
    default_code = "gone"

    def __init__(self, successor: str) -> None:
        super().__init__()
        self.link = f'<{successor}>; rel="successor-version"'


class PreconditionFailed(exceptions.APIException):
    status_code = 412
    default_detail = "The record has changed since; read it again."
    default_code = "precondition_failed"


class PayloadTooLarge(exceptions.APIException):
    status_code = 413
    default_detail = "The body is too large."
    default_code = "too_large"


class Unavailable(exceptions.APIException):
    status_code = 503
    default_detail = "The database is not available at the moment; try again soon."
    default_code = "unavailable"


def refuse(names: Iterable[str], code: str, detail: str) -> None:
    """Raise ValidationError (400) that points to each of these, when there are any."""
    names = {name if NAME.fullmatch(name) else "non_field_errors" for name in names}
    if names:
        raise exceptions.ValidationError({name: [exceptions.ErrorDetail(detail, code)] for name in sorted(names)})
