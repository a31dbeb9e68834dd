"""`?fields=` answers some of a record's fields, `?include=` adds related records, in one statement for all records."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.drainage import warn
from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.serializers import Field, Serializer

PARAMETERS = {"fields", "include"}


@dataclass(frozen=True)
class Inclusion:
    """What one name of `?include=` adds to each record.

    `fetch(records)` reads it for all records, and `field()` builds the serializer field that answers it. The fast path
    builds the same from `links`, the rows that link to the record by `parent`, in their order, and answers of each the
    record in `related`, by `serializer`.
    """

    fetch: Callable[[list[Any]], None]
    field: Callable[[], Field]
    links: Callable[[], QuerySet]
    parent: str
    related: str
    serializer: type[Serializer]


@dataclass(frozen=True)
class FieldSelection:
    """The names of the fields to answer, None for all of the record's own, and the names of the inclusions."""

    fields: frozenset[str] | None = None
    included: frozenset[str] = frozenset()

    @classmethod
    def of(cls, parameters: Mapping[str, str], fields: set[str], inclusions: set[str]) -> "FieldSelection":
        """Raises ValidationError (400) on a parameter that names an unknown field or inclusion."""
        included = read_names(parameters, "include", inclusions) or frozenset()
        return cls(read_names(parameters, "fields", fields | inclusions), included)


def read_names(parameters: Mapping[str, str], parameter: str, known: set[str]) -> frozenset[str] | None:
    """The comma-separated names of a parameter; None without it."""
    text = parameters.get(parameter)
    if text is None:
        return None
    listed = [name.strip() for name in text.split(",")]
    names = frozenset(listed)
    if not names <= known or len(names) < len(listed):
        some = f"Write some of these, each once, with commas between them: {', '.join(sorted(known))}."
        raise ValidationError({parameter: [ErrorDetail(some if known else "There is nothing to include.", "invalid")]})
    return names


def parameters_of_selection(view: Any, method: str) -> list[OpenApiParameter]:
    """The query parameters of an OpenAPI operation that come from here."""
    if method != "GET" or view.action not in getattr(view, "selecting_actions", ()):
        return []
    try:
        fields = view.get_serializer_class()().own_fields
    except Exception as error:  # a view whose serializer depends on the request
        warn(f"{type(view).__name__}: ?fields= is described without its choices ({type(error).__name__})")
        fields = None
    selection = names_parameter("fields", fields, "Answers only these fields of a record, though all are described.")
    if not view.inclusions:
        return [selection]
    return [selection, names_parameter("include", list(view.inclusions), "Adds these to each record.")]


def names_parameter(parameter: str, known: list[str] | None, description: str) -> OpenApiParameter:
    items: dict[str, Any] = {"type": "string"} if known is None else {"type": "string", "enum": known}
    schema = {"type": "array", "minItems": 1, "uniqueItems": True, "items": items}
    return OpenApiParameter(parameter, schema, description=description, explode=False, style="form")
