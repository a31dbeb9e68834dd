"""The tables of characters agree with the Unicode database of this Python."""

import sys
import unicodedata

from healthcare.characters import ASCII_DIGITS, DIGITS


def test_every_decimal_digit_is_known_with_its_value() -> None:
    values = dict(zip(DIGITS, ASCII_DIGITS, strict=True))
    assert len(values) == len(DIGITS)
    characters = map(chr, range(sys.maxunicode + 1))
    known = {one: str(unicodedata.decimal(one)) for one in characters if unicodedata.category(one) == "Nd"}
    assert {one: value for one, value in known.items() if not one.isascii()} == {
        one: value for one, value in values.items() if unicodedata.category(one) != "Cn"
    }
