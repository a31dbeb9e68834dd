"""R4's primitive datatypes in JSON (https://hl7.org/fhir/R4/datatypes.html#primitive)."""

import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

YEAR = r"(?!0000)[0-9]{4}"
MONTH = r"(?:0[1-9]|1[0-2])"
DAY = r"(?:0[1-9]|[12][0-9]|3[01])"
# 60 is a leap second.
TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?"
ZONE = r"(?:Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))"

WHITESPACE = re.compile(r"[ \t\r\n]+")
BASE64 = re.compile(r"[0-9A-Za-z+/]*={0,2}")
LARGEST_INTEGER = 2**31 - 1


def is_calendar_day(text: str) -> bool:
    """Whether the day exists, for a text that starts with YYYY-MM-DD; True for a year or a month."""
    if len(text) < len("YYYY-MM-DD"):
        return True
    try:
        date.fromisoformat(text[:10])
    except ValueError:
        return False
    return True


def is_base64(text: str) -> bool:
    digits = WHITESPACE.sub("", text)
    return bool(digits) and len(digits) % 4 == 0 and BASE64.fullmatch(digits) is not None


def integer_from(smallest: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and smallest <= value <= LARGEST_INTEGER


def matches_pattern(pattern: str) -> Callable[[Any], bool]:
    expression = re.compile(pattern)
    return lambda value: isinstance(value, str) and expression.fullmatch(value) is not None


def day_matches(pattern: str) -> Callable[[Any], bool]:
    has_the_form = matches_pattern(pattern)
    return lambda value: has_the_form(value) and is_calendar_day(value)


def has_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


STRING = re.compile(r"[ \r\n\t\S]+", re.ASCII)  # R4's own expression: no form feed or vertical tab


# What a value must fulfil, and what to do if it does not.
PRIMITIVES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "base64Binary": (lambda value: isinstance(value, str) and is_base64(value), "Send base64 (RFC 4648 section 4)."),
    "boolean": (lambda value: isinstance(value, bool), "Send true or false."),
    "canonical": (matches_pattern(r"\S+"), "Send a canonical URL: a string without whitespace."),
    "code": (matches_pattern(r"\S+(?: \S+)*"), "Send a code: a string without whitespace but single spaces inside."),
    "date": (
        day_matches(rf"{YEAR}(?:-{MONTH}(?:-{DAY})?)?"),
        "Send a date of the calendar as YYYY, YYYY-MM or YYYY-MM-DD.",
    ),
    "dateTime": (
        day_matches(rf"{YEAR}(?:-{MONTH}(?:-{DAY}(?:T{TIME}{ZONE})?)?)?"),
        "Send YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss with a zone, such as Z or +05:30; the day must exist.",
    ),
    "decimal": (lambda value: type(value) in (int, Decimal), "Send a number."),
    "element-id": (matches_pattern(r"\S+"), "Send a string without whitespace."),
    "id": (matches_pattern(r"[A-Za-z0-9\-.]{1,64}"), "Send 1 to 64 letters, digits, hyphens and periods."),
    "instant": (
        day_matches(rf"{YEAR}-{MONTH}-{DAY}T{TIME}{ZONE}"),
        "Send YYYY-MM-DDThh:mm:ss with a zone, such as Z or +05:30; the day must exist.",
    ),
    "integer": (integer_from(-LARGEST_INTEGER - 1), "Send a whole number of 32 bits, without fraction or exponent."),
    "markdown": (has_text, "Send a string with other characters than whitespace."),
    "oid": (matches_pattern(r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+"), "Send an OID, such as urn:oid:1.2.3."),
    "positiveInt": (integer_from(1), "Send a whole number from 1 to 2147483647, without fraction or exponent."),
    "string": (
        lambda value: has_text(value) and STRING.fullmatch(value) is not None,
        "Send a string with other characters than whitespace, and no form feed or vertical tab.",
    ),
    "time": (matches_pattern(TIME), "Send a time of the day as hh:mm:ss, without a time zone."),
    "unsignedInt": (integer_from(0), "Send a whole number from 0 to 2147483647, without fraction or exponent."),
    "uri": (matches_pattern(r"\S+"), "Send a URI: a string without whitespace."),
    "url": (matches_pattern(r"\S+"), "Send a URL: a string without whitespace."),
    "uuid": (
        matches_pattern(r"urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
        "Send a UUID in lower case, such as urn:uuid:c757873d-ec9a-4326-a141-556f43239520.",
    ),
}

# Required bindings to lists that others maintain and extend: media types (BCP 13) and currencies (ISO 4217).
OPEN_VALUE_SETS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "mimetypes": (matches_pattern(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?:\s*;.*)?"), "Send a media type, such as image/png."),
    "currencies": (matches_pattern(r"[A-Z]{3}"), "Send a currency of ISO 4217, such as EUR."),
}


def instant_key(text: str) -> tuple[int, Decimal]:
    """A key that orders the valid dateTimes with a time, whatever their zones: minutes and seconds."""
    day, _, rest = text.partition("T")
    sign = -1 if "+" in rest else 1
    clock, _, zone = rest.rstrip("Z").replace("+", "-").partition("-")
    hours, minutes, seconds = clock.split(":")
    zone_hours, _, zone_minutes = (zone or "00:00").partition(":")
    offset = int(zone_hours) * 60 + int(zone_minutes)
    # Not a datetime: year 1 and 9999 have no UTC there, a second may be the 60th and fractions have any length.
    return date.fromisoformat(day).toordinal() * 1440 + int(hours) * 60 + int(minutes) + sign * offset, Decimal(seconds)


def is_before(first: str, second: str) -> bool:
    """Whether a valid dateTime is before another, as far as both are precise enough to say so."""
    if "T" in first and "T" in second:
        return instant_key(first) < instant_key(second)
    precision = min(len(first.partition("T")[0]), len(second.partition("T")[0]))
    return first[:precision] < second[:precision]
