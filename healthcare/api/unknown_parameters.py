"""Refuses (400) query parameters and body fields that an operation does not know, so that nothing is ignored unseen."""

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cache
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote

from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import ErrorDetail
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer, ListSerializer, Serializer
from rest_framework.viewsets import GenericViewSet

from healthcare.api.exceptions import NAME, LimitedErrors, refuse
from healthcare.api.fields import ObjectListField
from healthcare.api.preferences import PATTERN, read_preferences
from healthcare.api.sparse_fieldsets import PARAMETERS as SPARSE_FIELDSETS
from healthcare.api.suggestions import nearest_name

PLACEHOLDER = re.compile(r"<[^>]*>|\{[^}]*\}")
LONGEST_COMPARED = 64  # characters of a name that are compared with the known names
REPEATABLE = SPARSE_FIELDSETS | {"map"}  # an import renames several columns
CACHE_BUSTER = "_"  # jQuery and others add it to a GET so that no cache answers
PREFER = OpenApiParameter(
    "Prefer",
    {"type": "string", "pattern": PATTERN},
    OpenApiParameter.HEADER,
    description="With `handling=lenient` (RFC 7240) unknown body fields are ignored instead of being an error (400).",
)


class UnknownParametersViewSet(GenericViewSet):
    """Accepts the query parameters that its OpenAPI description names and the body fields of its serializer.

    Any other is refused (400), so that a misspelt filter does not return the whole list and a misspelt field is not
    lost. Read-only fields are accepted and ignored, so that a client can send back what it has read. With `Prefer:
    handling=lenient` (RFC 7240) unknown body fields are ignored.

    An action that uses no serializer calls `check_unused_body`. The body of a DELETE has no meaning (RFC 9110 section
    9.3.5), so it is not looked at.

    - `delete_has_body`: whether the view reads the body of a DELETE all the same, by its serializer.
    - `added_fields`: the fields that answers of other paths add to this record; bodies may repeat them.
    """

    delete_has_body: ClassVar[bool] = False
    added_fields: ClassVar[Set[str]] = frozenset()
    handling: str | None = None  # the preference of the request: strict, lenient or None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        route = request._request.resolver_match.route  # type: ignore[union-attr]
        known = known_parameters().get((str(request.method), path_shape(route)))
        if known is not None:
            check_parameters(request, known)
        if request.method in self.methods_with_body():
            self.handling = read_preferences(request.META).get("handling")

    @classmethod
    def methods_with_body(cls) -> Set[str]:
        return {"POST", "PUT", "PATCH", *(["DELETE"] if cls.delete_has_body else [])}

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        serializer = super().get_serializer(*args, **kwargs)
        return self.check_unknown_fields(serializer) if "data" in kwargs else serializer

    def check_unknown_fields(self, serializer: Any) -> Any:
        """The serializer. Raises ValidationError (400) on unknown fields unless the client prefers lenient handling."""
        if self.handling != "lenient":
            found = unknown_fields(serializer, serializer.initial_data)
            refuse_fields([field for field in found if field.parents or field.name not in self.added_fields])
        return serializer

    def check_unused_body(self, request: Request, ignored: Set[str] = frozenset()) -> None:
        """Raise ValidationError (400) on the fields of a body that an action does not use, but for `ignored` ones."""
        if self.handling != "lenient":
            refuse_fields([UnknownField((), name, frozenset()) for name in request.data if name not in ignored])

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        final = super().finalize_response(request, response, *args, **kwargs)
        if self.handling in {"strict", "lenient"}:
            final["Preference-Applied"] = f"handling={self.handling}"
        return final


def check_parameters(request: Request, known: Set[str]) -> None:
    """Raise ValidationError (400) on query parameters that are unknown or repeated."""
    unknown = request.query_params.keys() - known
    if request.method == "GET":
        unknown -= {CACHE_BUSTER}
    if unknown:
        raise LimitedErrors(
            {
                printable_parameter(name): suggest(name, known, "This path has no such parameter", "remove it")
                for name in sorted(unknown)[: LimitedErrors.LIMIT]
            },
            len(unknown),
        )
    repeated = {name for name, values in request.query_params.lists() if len(values) > 1} - REPEATABLE
    refuse(repeated - {CACHE_BUSTER}, "repeated", "Send this parameter once.")


def printable_parameter(name: str) -> str:
    """A name as ASCII of at most 64 characters, percent-encoded."""
    return quote(name, safe="!$'()*,-./:;@[]_")[:64]


class UnknownField(NamedTuple):
    """A field of a body, the keys that lead to its object, the names that the object may have, and those it has."""

    parents: tuple[str, ...]
    name: str
    known: Set[str]
    sent: Set[str] = frozenset()


def unknown_fields(serializer: Any, data: Any, parents: tuple[str, ...] = ()) -> Iterator[UnknownField]:
    """The fields of `data` that the serializer and those nested in it do not have."""
    if isinstance(serializer, ListSerializer | ObjectListField) and isinstance(data, list):
        for index, item in enumerate(data):
            yield from unknown_fields(serializer.child, item, (*parents, str(index)))
    elif isinstance(serializer, Serializer) and isinstance(data, Mapping):
        fields = serializer.fields
        known = frozenset(name for name, field in fields.items() if not field.read_only)
        for name, value in data.items():
            if name not in fields:
                yield UnknownField(parents, name, known, data.keys())
            elif isinstance(fields[name], BaseSerializer | ObjectListField) and name in known:
                yield from unknown_fields(fields[name], value, (*parents, name))


def refuse_fields(fields: Sequence[UnknownField]) -> None:
    """Raise ValidationError (400) with the first errors if there are any of these fields."""
    if not fields:
        return
    errors: dict[str, Any] = {}
    for parents, name, known, sent in sorted(fields[: LimitedErrors.LIMIT], key=lambda field: field[:2]):
        within = errors
        for parent in parents:
            within = within.setdefault(parent, {})
        key = name if NAME.fullmatch(name) else "non_field_errors"
        remedy = "remove it, or send `Prefer: handling=lenient` to ignore it"
        within[key] = suggest(name, known, "Unknown field", remedy, sent)
    raise LimitedErrors(errors, len(fields))


def suggest(name: str, known: Set[str], problem: str, remedy: str, sent: Set[str] = frozenset()) -> list[ErrorDetail]:
    nearest = nearest_name(name[:LONGEST_COMPARED], known, sent)
    return [ErrorDetail(f"{problem}; did you mean `{nearest}`?" if nearest else f"{problem}; {remedy}.", "unknown")]


def preference_parameters(view: Any, method: str) -> list[OpenApiParameter]:
    """The OpenAPI parameter `Prefer`, for operations that support it."""
    return [PREFER] if isinstance(view, UnknownParametersViewSet) and method in view.methods_with_body() else []


@cache
def known_parameters() -> dict[tuple[str, str], frozenset[str]]:
    """The query parameters of every described operation, by method and path shape."""
    from healthcare.api.schema_view import description  # noqa: PLC0415  (it imports every view)

    found = {
        (method.upper(), path_shape(path.lstrip("/"))): frozenset(
            parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "query"
        )
        for path, operations in description()["paths"].items()
        for method, operation in operations.items()
    }
    return found | {("HEAD", path): names for (method, path), names in found.items() if method == "GET"}


def path_shape(template: str) -> str:
    """A path template with unnamed placeholders, since Django and OpenAPI write and name them differently."""
    return PLACEHOLDER.sub("{}", template)
