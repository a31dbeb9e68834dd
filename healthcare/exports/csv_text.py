"""The text of CSV cells (RFC 4180): nothing in one is a formula to a spreadsheet, and importing takes the escape off.

A text that a spreadsheet could run gets one apostrophe before it (OWASP, CSV injection). One that has apostrophes there
already gets one more, so that `unescape_formula(escape_formula(text)) == text` for every text. A file that was never
escaped stays as it is, unless a cell begins with an apostrophe and a formula.
"""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

BYTE_ORDER_MARK = "\ufeff"  # by which Excel recognises UTF-8
# What begins a formula at the beginning of a cell, in any width: `＝` is `=` to a spreadsheet.
FORMULA = frozenset("=+-@")
# A spreadsheet whose list separator is the semicolon begins a cell after one, LibreOffice also after a tab, and a line
# anywhere begins a row.
CELL_ENDS = frozenset(";\t\r\n")
# The beginnings of cells, with the apostrophes there.
CELL_STARTS = re.compile(r"(?:\A|(?<=[;\t\r\n]))'*")
# Most texts need no closer look.
HARMLESS = re.compile(r"[A-Za-z0-9][^;\t\r\n]*|")


def escape_formula(text: str) -> str:
    """The text with an apostrophe before whatever a spreadsheet could take for the beginning of a formula: at the
    beginning, and after what begins another cell or row in some of them."""
    if HARMLESS.fullmatch(text):
        return text
    return CELL_STARTS.sub(lambda start: f"'{start[0]}" if needs_escape(text, start) else start[0], text)


def unescape_formula(text: str) -> str:
    """The text that `escape_formula` was given."""
    if "'" not in text:
        return text
    return CELL_STARTS.sub(lambda start: start[0][1:] if needs_escape(text, start) else start[0], text)


def needs_escape(text: str, start: re.Match[str]) -> bool:
    """Whether what follows the apostrophes at this beginning of a cell may begin a formula."""
    begins_with_blank = start.start() == 0 and text[start.end() : start.end() + 1] in {"\t", "\r", "\n"}
    return begins_with_blank or begins_formula(text, start.end())


def begins_formula(text: str, place: int) -> bool:
    """Whether a formula begins here, after what a spreadsheet drops: quotes, blanks and invisible characters."""
    for position in range(place, len(text)):
        character = text[position]
        if character in CELL_ENDS:
            return False
        if not (character == '"' or character.isspace() or unicodedata.category(character) in {"Cf", "Cc"}):
            return unicodedata.normalize("NFKC", character)[0] in FORMULA
    return False


def as_cell(value: Any) -> str:
    """The text of a cell: of a value in JSON, as the API represents it. Null is empty; lists and objects are JSON."""
    if isinstance(value, str):
        return escape_formula(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json_cell(value) if isinstance(value, list | dict) else str(value)


def json_cell(value: Any) -> str:
    """JSON in which no cell begins: a semicolon, which occurs in texts alone, is written as its escape."""
    return json.dumps(value, ensure_ascii=False).replace(";", "\\u003b")


def csv_lines(rows: Iterable[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()
