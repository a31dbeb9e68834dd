"""What the operations on several resources share (https://hl7.org/fhir/R4/operations.html)."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from django.http import QueryDict
from rest_framework.exceptions import ValidationError

from healthcare.api.filters import read_date_time

OF_SYSTEM = ""  # the resource type of an operation on the whole server


@dataclass(frozen=True)
class Operation:
    """`name` is that of the path, without its `$`; `definition` the URL of its OperationDefinition."""

    name: str
    definition: str


def read_since(parameters: QueryDict) -> datetime.datetime | None:
    """The time in `_since`. Raises ValidationError (400) for another text."""
    text = parameters.get("_since")
    if text is None:
        return None
    since = read_date_time(text)
    if since is None:
        raise ValidationError({"_since": ["Write an instant, 2026-01-31T08:00:00Z for example."]})
    return since


def read_types(parameters: QueryDict, known: Sequence[str], *, lenient: bool) -> list[str]:
    """The resource types in `_type`, which may be repeated, each once and in the order of `known`; all without it.

    Raises ValidationError (400) for others, which a lenient client does not mind.
    """
    names = {name for text in parameters.getlist("_type") for name in text.split(",")}
    if "_type" not in parameters:
        return [*known]
    if names - {*known} and not lenient:
        raise ValidationError({"_type": [f"Write some of these: {', '.join(known)}."]})
    return [name for name in known if name in names]
