"""Refuses (400) unknown query parameters, and unknown body fields with `Prefer: handling=strict` (RFC 7240)."""

import re
from functools import cache
from typing import Any

from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from healthcare.api.exceptions import refuse

HANDLING_STRICT = re.compile(r'(?:^|,)[ \t]*handling[ \t]*=[ \t]*"?strict"?[ \t]*(?:[;,]|$)', re.IGNORECASE)
PLACEHOLDER = re.compile(r"<[^>]*>|\{[^}]*\}")
PREFER = OpenApiParameter(
    "Prefer",
    {"type": "string"},
    OpenApiParameter.HEADER,
    description="With `handling=strict` (RFC 7240) an unknown body field is an error (400) instead of being ignored.",
)


class UnknownParametersViewSet(GenericViewSet):
    """Accepts the query parameters that its OpenAPI description names and refuses (400) any other, so that a misspelt
    filter does not return the whole list. With `Prefer: handling=strict` (RFC 7240) unknown body fields are refused."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        route = request._request.resolver_match.route  # type: ignore[union-attr]
        known = known_parameters().get((str(request.method), path_shape(route)))
        if known is not None:
            refuse(
                request.query_params.keys() - known, "unknown", "Remove this parameter; this path does not support it."
            )
            repeated = [name for name, values in request.query_params.lists() if len(values) > 1]
            refuse(repeated, "repeated", "Send this parameter once.")

    @property
    def handles_strictly(self) -> bool:
        """Whether the client prefers an error to an ignored field."""
        return bool(HANDLING_STRICT.search(self.request.headers.get("Prefer", "")))

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        serializer = super().get_serializer(*args, **kwargs)
        return self.check_unknown_fields(serializer) if "data" in kwargs else serializer

    def check_unknown_fields(self, serializer: Any) -> Any:
        """The serializer. Raises ValidationError (400) on unknown fields if the client prefers strict handling."""
        if self.handles_strictly:
            refuse(
                serializer.initial_data.keys() - serializer.fields.keys(),
                "unknown",
                "Remove this field; this path does not accept it.",
            )
        return serializer

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        final = super().finalize_response(request, response, *args, **kwargs)
        if request.method in {"POST", "PUT", "PATCH"} and self.handles_strictly:
            final["Preference-Applied"] = "handling=strict"
        return final


def preference_parameters(view: Any, method: str) -> list[OpenApiParameter]:
    """The OpenAPI parameter `Prefer`, for operations that support it."""
    return [PREFER] if method in {"POST", "PUT", "PATCH"} and isinstance(view, UnknownParametersViewSet) else []


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
