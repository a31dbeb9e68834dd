"""`?fields=` selects fields of a record, `?include=` adds related records, in one statement for all records."""

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
    """The related records that one name of `?include=` adds to each record.

    `fetch(records)` reads them for all records, and `field()` builds the serializer field that contains them. The fast
    path compiles the same from the other attributes: `links` are the association rows, whose foreign key `parent`
    refers to the record and whose foreign key `related` to the included one, which `serializer` represents.
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
        detail = f"Send a comma-separated list of these names, each at most once: {', '.join(sorted(known))}."
        raise ValidationError(
            {
                parameter: [
                    ErrorDetail(
                        detail if known else "Remove this parameter; these records have nothing to include.", "invalid"
                    )
                ]
            }
        )
    return names


def parameters_of_selection(view: Any, method: str) -> list[OpenApiParameter]:
    """The OpenAPI parameters `fields` and `include`, for operations that support them."""
    if method != "GET" or view.action not in getattr(view, "selecting_actions", ()):
        return []
    try:
        fields = view.get_serializer_class()().own_fields
    except Exception as error:  # a view whose serializer depends on the request
        warn(f"{type(view).__name__}: ?fields= is described without its choices ({type(error).__name__})")
        fields = None
    selection = names_parameter(
        "fields", fields, "Returns only these fields of each record; the schema describes all of them."
    )
    if not view.inclusions:
        return [selection]
    return [selection, names_parameter("include", list(view.inclusions), "Adds these related records to each record.")]


def names_parameter(parameter: str, known: list[str] | None, description: str) -> OpenApiParameter:
    items: dict[str, Any] = {"type": "string"} if known is None else {"type": "string", "enum": known}
    schema = {"type": "array", "minItems": 1, "uniqueItems": True, "items": items}
    return OpenApiParameter(parameter, schema, description=description, explode=False, style="form")
