"""Phone numbers as people write them, in ASCII."""

import re
import unicodedata

from django.core.exceptions import ValidationError

from healthcare.characters import ASCII_DIGITS, DIGITS, FULL_WIDTH, visible_text

# Beside those of the category Pd: the minus, modifier letters, and the long vowel sign, which Japanese keyboards have.
DASHES = "\u02d7\u2043\u2212\u2796\u30fc\uff70"
ASCII = str.maketrans(DIGITS, ASCII_DIGITS) | FULL_WIDTH | str.maketrans(dict.fromkeys(DASHES, "-"))
ASCII_SEPARATORS = {"Zs": " ", "Pd": "-"}  # by Unicode category
SCHEME = re.compile(r"\A\s*tel:(//)?", re.IGNORECASE)
# Possessive quantifiers, so that a long text is refused in linear time.
PHONE_NUMBER = re.compile(
    r"[()./ -]*+(?:\+[()./ -]*+)?[0-9()./ -]*+(?:[,;]? ?(?:x|ext(?:n|ension)?\.?|#)[ :=]*+[0-9]++)?", re.IGNORECASE
)
LONG_EXTENSION = re.compile("ext(?:n|ension)", re.IGNORECASE)


def phone_number(text: str) -> str:
    """The number with digits, dashes and spaces of ASCII, without invisible characters and `tel:` (RFC 3966)."""
    if not text.isascii():
        text = visible_text(text).translate(ASCII)
        text = "".join(ASCII_SEPARATORS.get(unicodedata.category(character), character) for character in text).strip()
    return SCHEME.sub("", text)


def is_phone_number(text: str) -> bool:
    """Whether a text is a number in the form that `phone_number` gives."""
    return PHONE_NUMBER.fullmatch(text) is not None and any(character.isdigit() for character in text)


def as_search_text(text: str) -> str:
    """A text to search for; a phone number in the form in which the SQL of search knows one."""
    number = phone_number(text)
    return LONG_EXTENSION.sub("ext", number) if is_phone_number(number) else text


def validate_phone_number(value: str) -> None:
    """Raise ValidationError unless the value is a phone number in the form that `phone_number` returns."""
    if not is_phone_number(value):
        raise ValidationError(
            "Enter a phone number: digits with spaces or ( ) . / - between them, a + in front and an extension (x123) "
            "behind if need be.",
            code="invalid",
        )
