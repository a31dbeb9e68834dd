"""Unicode characters that people see alike: decimal digits, and characters that nobody sees."""

import re
import unicodedata

# The zeros of all decimal digits (category Nd, Unicode 17); 1 to 9 follow each. They are listed because `unicodedata`
# depends on the version of Python, and the SQL of a migration must not.
ZEROS = (
    0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6, 0x0D66, 0x0DE6, 0x0E50,
    0x0ED0, 0x0F20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40, 0x1C50,
    0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10, 0x104A0, 0x10D30, 0x10D40, 0x11066, 0x110F0,
    0x11136, 0x111D0, 0x112F0, 0x11450, 0x114D0, 0x11650, 0x116C0, 0x116D0, 0x116DA, 0x11730, 0x118E0, 0x11950,
    0x11BF0, 0x11C50, 0x11D50, 0x11DA0, 0x11DE0, 0x11F50, 0x16130, 0x16A60, 0x16AC0, 0x16B50, 0x16D70, 0x1CCF0,
    0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6, 0x1E140, 0x1E2F0, 0x1E4F0, 0x1E5F1, 0x1E950, 0x1FBF0,
)  # fmt: skip
DIGITS = "".join(chr(zero + value) for zero in ZEROS for value in range(10))  # but for ASCII's
ASCII_DIGITS = "0123456789" * len(ZEROS)  # the value of each
FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # to ASCII, for str.translate

# Default_Ignorable_Code_Point, the format characters (Cf) besides the visible signs before Arabic and other numbers,
# the empty musical notehead, and noncharacters. The pattern of braille without dots becomes a space instead.
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    + "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0x10000, 0x110000, 0x10000))
    + "]"
)
BRAILLE_SPACE = "\u2800"
NON_JOINER, JOINER = "\u200c", "\u200d"
EMOJI_STYLES = "\ufe0e\ufe0f"
HAN_VARIANT = re.compile("[\ufe00-\ufe02\U000e0100-\U000e01ef]")
MONGOLIAN_VARIANT = re.compile("[\u180b-\u180d\u180f]")
KEYCAP = "\u20e3"
VIRAMA = 9  # canonical combining class


def visible_text(text: str) -> str:
    """The text without invisible characters; without spaces around it if there were any.

    Those that change how their neighbours look stay: U+200C and U+200D between letters (Persian, Sinhala) and after a
    virama, U+200D inside an emoji, and the variation selectors of emoji and of Han and Mongolian letters.
    """
    if text.isascii() or not (BRAILLE_SPACE in text or INVISIBLE.search(text)):
        return text
    text = text.replace(BRAILLE_SPACE, " ")
    seen: list[str] = [""]
    following = ""  # the next visible character, from the last to the first
    next_visible = [following := character if not INVISIBLE.match(character) else following for character in text[::-1]]
    for character, after in zip(text, ["", *next_visible][len(text) - 1 :: -1], strict=True):
        if not INVISIBLE.match(character) or changes_neighbours(character, seen[-1], after):
            seen.append(character)
    return "".join(seen).strip()


def changes_neighbours(character: str, before: str, after: str) -> bool:
    """Whether an invisible character changes how the ones before it and after it look."""
    if not before:
        return False
    kind, next_kind = unicodedata.category(before), unicodedata.category(after) if after else ""
    if character in {NON_JOINER, JOINER}:
        if kind[0] in "LM" and before not in EMOJI_STYLES:
            return next_kind[:1] in {"L", "M"} or unicodedata.combining(before) == VIRAMA
        is_emoji = kind in {"So", "Sk"} or before in EMOJI_STYLES
        return character == JOINER and is_emoji and next_kind in {"So", "Sm"}
    if character in EMOJI_STYLES:
        return kind in {"So", "Sm"} or after == KEYCAP
    if HAN_VARIANT.match(character):
        return kind == "Lo" and unicodedata.east_asian_width(before) == "W"
    return bool(MONGOLIAN_VARIANT.match(character)) and "\u1820" <= before <= "\u18aa"
