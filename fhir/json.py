"""JSON in which decimals keep their digits: to R4, 1.10 is more precise than 1.1 (datatypes.html#decimal)."""

import json
import re
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any

import simplejson
from rest_framework.exceptions import ParseError

from healthcare.api.parsers import MAXIMUM_DEPTH, check_storable, object_with_unique_keys, refuse_constant

# simplejson skips a byte order mark, also one of UTF-8 that was read as Latin-1. RFC 8259 lets a parser refuse it, and
# the other parsers here do.
MARKED_BEGINNING = re.compile("[ \t\r\n]*(\ufeff|\u00ef\u00bb\u00bf)")


def parse_decimal(digits: str) -> Decimal:
    try:
        return Decimal(digits)
    except InvalidOperation as error:
        raise ParseError("A number has too large an exponent.") from error


DECIMAL_DECODER = simplejson.JSONDecoder(
    object_pairs_hook=object_with_unique_keys, parse_constant=refuse_constant, parse_float=parse_decimal
)
ENCODER = simplejson.JSONEncoder(use_decimal=True, ensure_ascii=False, separators=(",", ":"))
# The standard library's is twice as fast, and writes the same text.
FAST_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
INDENTING_ENCODER = simplejson.JSONEncoder(use_decimal=True, ensure_ascii=False, separators=(",", ": "), indent=2)


def decode(text: str) -> dict[str, Any]:
    """The JSON object of a text; a number with a fraction or an exponent is a Decimal.

    As strict as `healthcare.api.parsers`: unique keys, finite numbers, at most 32 levels, no NUL and no lone surrogate.
    Raises ParseError for any other text.
    """
    try:
        if MARKED_BEGINNING.match(text):
            raise ValueError
        value = DECIMAL_DECODER.decode(text)
        if not isinstance(value, dict):
            raise ParseError("The body is not a JSON object.")
        check_storable(value, depth=1)
    except RecursionError as error:
        raise ParseError(f"The body is nested more than {MAXIMUM_DEPTH} levels deep.") from error
    except ValueError as error:
        raise ParseError("The body is not valid JSON.") from error
    return value


def decode_own(text: str) -> Any:
    """The value of a JSON text that this server has written, which may be nested more deeply than a body."""
    return DECIMAL_DECODER.decode(text)


def encode(value: Any, *, indent: bool = False) -> str:
    """The JSON text of a value that `decode` may have returned, each decimal with its digits."""
    if not indent:
        with suppress(TypeError):  # it knows no decimals, which few values have
            return FAST_ENCODER.encode(value)
    text: str = (INDENTING_ENCODER if indent else ENCODER).encode(value)
    return text


def pretty(text: str) -> str:
    """The same JSON, indented."""
    return encode(decode_own(text), indent=True)
