"""The `Prefer` header (RFC 7240)."""

import re
from collections.abc import Mapping
from typing import Any

from rest_framework.exceptions import ParseError

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  (RFC 9110 section 5.6.2)
PREFERENCE_VALUE = rf'(?:{TOKEN}|"(?:[^"\\]|\\.)*")'
PREFERENCE_PARAMETER = rf"{TOKEN}(?:[ \t]*=[ \t]*{PREFERENCE_VALUE})?"
PREFERENCE = re.compile(
    rf"[ \t,]*(?P<name>{TOKEN})(?:[ \t]*=[ \t]*(?P<value>{PREFERENCE_VALUE}))?"
    rf"(?:[ \t]*;[ \t]*(?:{PREFERENCE_PARAMETER})?)*[ \t]*(?:,|$)"
)
# What OpenAPI says of the header: the same, with its empty elements and spaces, but for quoted values.
ASSIGNED = rf"{TOKEN}([ \t]*=[ \t]*{TOKEN})?"
LISTED = rf"{ASSIGNED}([ \t]*;[ \t]*({ASSIGNED})?)*"
PATTERN = rf"^[ \t,]*{LISTED}([ \t]*,[ \t,]*{LISTED})*[ \t]*,?$"


def read_preferences(meta: Mapping[str, Any]) -> dict[str, str]:
    """The preferences of a request by name, both in lower case; the first of each name wins, and `""` is no value.

    Raises ParseError (400) if the header cannot be read: a client that prefers something must not be ignored unseen.
    """
    header = meta.get("HTTP_PREFER")
    if header is None:
        return {}
    found: dict[str, str] = {}
    position = 0
    while position < len(header) or not found:
        match = PREFERENCE.match(header, position)
        if match is None:
            raise ParseError("Write the Prefer header in ASCII as in RFC 7240, `handling=lenient` for example.")
        found.setdefault(match["name"].lower(), (match["value"] or "").strip('"').lower())
        position = match.end()
    return found
