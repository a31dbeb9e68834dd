"""`?fields=` answers less of a record, `?include=` more: what belongs to it, in one statement for all records."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.serializers import Field

PARAMETERS = {"fields", "include"}


@dataclass(frozen=True)
class Inclusion:
    """What `?include=` adds: `fetch(records)` reads it for all, `field()` makes the serializer field that shows it."""

    fetch: Callable[[list[Any]], None]
    field: Callable[[], Field]


@dataclass(frozen=True)
class Shape:
    """The fields to answer (None for all of the record's own) and the names of what is included."""

    fields: frozenset[str] | None = None
    included: frozenset[str] = frozenset()

    @classmethod
    def of(cls, request: Request, fields: set[str], inclusions: set[str]) -> "Shape":
        """Raises ValidationError (400) on a parameter that names what is not there."""
        included = read_names(request, "include", inclusions) or frozenset()
        return cls(read_names(request, "fields", fields | inclusions), included)


def read_names(request: Request, parameter: str, known: set[str]) -> frozenset[str] | None:
    """The comma-separated names of a parameter; None without it."""
    text = request.query_params.get(parameter)
    if text is None:
        return None
    listed = [name.strip() for name in text.split(",")]
    names = frozenset(listed)
    if not names <= known or len(names) < len(listed):
        some = f"Write some of these, each once, with commas between them: {', '.join(sorted(known))}."
        raise ValidationError({parameter: [ErrorDetail(some if known else "There is nothing to include.", "invalid")]})
    return names


def taken(view: Any, method: str) -> list[OpenApiParameter]:
    """What an OpenAPI operation takes because of this."""
    if method != "GET" or view.action not in getattr(view, "shaped", ()):
        return []
    fields = view.get_serializer_class()().own_fields
    less = names("fields", fields, "Answers only these fields of a record, though all are described here.")
    return [less, names("include", list(view.inclusions), "Adds these to each record.")] if view.inclusions else [less]


def names(parameter: str, known: list[str], description: str) -> OpenApiParameter:
    schema = {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"type": "string", "enum": known}}
    return OpenApiParameter(parameter, schema, description=description, explode=False, style="form")
