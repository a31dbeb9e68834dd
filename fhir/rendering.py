"""Which types of content /fhir reads and writes: JSON, under the names that R4 and its clients use for it."""

from collections.abc import Iterable, Mapping, Set
from typing import Any, ClassVar

from django.http import HttpRequest
from rest_framework.exceptions import NotAcceptable
from rest_framework.parsers import FormParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from fhir.json import decode, pretty
from fhir.outcomes import FHIR_JSON
from healthcare.api.pagination import read_flag
from healthcare.api.parsers import OnlyJSON, StrictJSONParser
from healthcare.coverage import covered_by_fast_path

JSON_TYPES = {"application/fhir+json", "application/json", "text/json"}
ANY_MEDIA_TYPE = {"*/*", "application/*"}
ANSWER_FORMAT = "_format"
FORMAT_VALUES = JSON_TYPES | {"json"}  # of `_format` (https://hl7.org/fhir/R4/http.html#parameters)
VERSIONS = {"4.0", "4.0.1"}  # of the parameter `fhirVersion` of a media type, whose name Django gives in lower case


@covered_by_fast_path
class FhirParser(StrictJSONParser):
    """A resource in JSON, whose decimals keep their digits."""

    media_type = FHIR_JSON

    def decode(self, text: str) -> dict[str, Any]:
        return decode(text)


@covered_by_fast_path
class JsonParser(FhirParser):
    media_type = "application/json"


@covered_by_fast_path
class TextJsonParser(FhirParser):
    media_type = "text/json"


PARSERS = [FhirParser, JsonParser, TextJsonParser]
SEARCH_PARSERS = [FormParser]


@covered_by_fast_path
class FhirRenderer(BaseRenderer):
    """Writes the text that the view has made of the resource; with `_pretty=true` indented."""

    media_type = FHIR_JSON
    format = "json"
    charset = None

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        if data is None:
            return b""
        request = (renderer_context or {}).get("request")
        return written(data, request) if request else data.encode()


def written(text: str, request: Request) -> bytes:
    """The body with this text, as the request wants it."""
    return (pretty(text) if is_pretty(request) else text).encode()


def is_pretty(request: Request) -> bool:
    return request.query_params.get("_pretty", "").lower() in {"true", "1"}


@covered_by_fast_path
class FhirNegotiation(OnlyJSON):
    """JSON, unless the client wants something else alone."""

    types: ClassVar[Set[str]] = JSON_TYPES

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        read_flag(request.query_params, "_pretty")  # 400 for another value
        asked = request.query_params.get(ANSWER_FORMAT)
        accepted = accepts_json(request._request, self.types) if asked is None else is_json(asked)
        if not accepted:
            raise NotAcceptable
        return super().select_renderer(request, renderers, format_suffix)


def format_of(text: str) -> str:
    """The format that a parameter of the URL names. A `+` that was not percent-encoded arrives as a space."""
    return text.split(";")[0].replace(" ", "+")


def is_json(text: str) -> bool:
    """Whether a value of `_format` asks for JSON."""
    return format_of(text) in FORMAT_VALUES


def accepts_json(request: HttpRequest, types: Set[str] = JSON_TYPES) -> bool:
    """Whether the client takes JSON, under one of these names."""
    if not request.META.get("HTTP_ACCEPT", "").strip():
        return True
    return any(
        f"{one.main_type}/{one.sub_type}" in types | ANY_MEDIA_TYPE
        and one.quality > 0
        and one.params.get("fhirversion", "4.0") in VERSIONS
        for one in request.accepted_types
    )
