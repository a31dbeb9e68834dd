"""Strict JSON (RFC 8259): bodies that two parsers could read differently are refused."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import IO, Any, Never

from rest_framework.exceptions import ParseError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

MAXIMUM_DEPTH = 32
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # PostgreSQL stores neither NUL nor a lone surrogate


class StrictJSONParser(BaseParser):
    """One JSON object in UTF-8: unique keys, finite numbers, at most 32 levels, no NUL and no lone surrogate.

    Raises ParseError (400) with a fixed text; the input is never repeated.
    """

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        body = stream.read()
        if len(body) < announced_length(parser_context):
            raise ParseError("The body is shorter than its Content-Length; send all of it.")
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ParseError("The body is not UTF-8.") from error
        return self.decode(text)

    def decode(self, text: str) -> dict[str, Any]:
        return decode_object(text, "The body")


def decode_object(text: str, name: str) -> dict[str, Any]:
    """The JSON object of a text. Raises ParseError, in a sentence about `name`, for any other text."""
    try:
        value = DECODER.decode(text)
        if not isinstance(value, dict):
            raise ParseError(f"{name} is not a JSON object.")
        check_storable(value, depth=1)
    except RecursionError as error:
        raise ParseError(f"{name} is nested more than {MAXIMUM_DEPTH} levels deep.") from error
    except ValueError as error:
        raise ParseError(f"{name} is not valid JSON.") from error
    return value


def announced_length(parser_context: Mapping[str, Any] | None) -> int:
    """The Content-Length in bytes; a shorter body is incomplete and must not be processed (RFC 9112 section 8)."""
    request = (parser_context or {}).get("request")
    return int(request.META.get("CONTENT_LENGTH") or 0) if request else 0


def object_with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ParseError("An object contains the same key twice; send each key once.")
    return value


def refuse_constant(_: str) -> Never:
    raise ParseError("NaN and Infinity are not JSON; send a number or null.")


def finite_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ParseError("A number is too large; send a smaller one.")
    return value


DECODER = json.JSONDecoder(
    object_pairs_hook=object_with_unique_keys, parse_constant=refuse_constant, parse_float=finite_float
)


def check_storable(value: Any, depth: int) -> None:
    """Raise RecursionError for a value that is nested too deeply, ParseError for text that PostgreSQL cannot store."""
    if isinstance(value, str):
        if UNSTORABLE.search(value):
            raise ParseError("A string contains a NUL character or a lone surrogate; remove it.")
    elif isinstance(value, dict | list):
        if depth > MAXIMUM_DEPTH:
            raise RecursionError
        for item in value:
            check_storable(item, depth + 1)
        if isinstance(value, dict):
            for item in value.values():
                check_storable(item, depth + 1)


class OnlyJSON(DefaultContentNegotiation):
    """Chooses the parser by Content-Type and always responds in JSON, which RFC 9110 section 12.5.1 allows."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        # DRF takes `*/*` for a match; a body has one type (RFC 9110 section 8.3).
        return None if "*" in (request.content_type or "") else super().select_parser(request, parsers)

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type
