"""Phone numbers as people write them, in ASCII."""

import re
import unicodedata

from django.core.exceptions import ValidationError

from healthcare.characters import ASCII_DIGITS, DIGITS, FULL_WIDTH, visible_text

DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\ufe58\ufe63"
ASCII = str.maketrans(DIGITS, ASCII_DIGITS) | FULL_WIDTH | str.maketrans(dict.fromkeys(DASHES, "-"))
SCHEME = re.compile(r"\A\s*tel:(//)?", re.IGNORECASE)
# Possessive quantifiers, so that a long text is refused in linear time.
NUMBER = re.compile(r"[()./ -]*+(?:\+[()./ -]*+)?[0-9()./ -]*+(?:[,;]? ?(?:x|ext\.?|#)[ :=]*+[0-9]++)?", re.IGNORECASE)


def phone_number(text: str) -> str:
    """The number with digits, dashes and spaces of ASCII, without invisible characters and `tel:` (RFC 3966)."""
    if not text.isascii():
        text = visible_text(text).translate(ASCII)
        text = "".join(" " if unicodedata.category(character) == "Zs" else character for character in text).strip()
    return SCHEME.sub("", text)


def validate_phone_number(value: str) -> None:
    """Refuse what is no number in the form that `phone_number` gives."""
    if not NUMBER.fullmatch(value) or not any(character.isdigit() for character in value):
        raise ValidationError(
            "Enter a phone number: digits with spaces or ( ) . / - between them, a + in front and an extension (x123) "
            "behind if need be.",
            code="invalid",
        )
