"""Dates in the form that a file writes them."""

import datetime
import re

from healthcare.rfc3339 import parse_full_date

DIRECTIVE = re.compile("%(.?)", re.DOTALL)
DAY, MONTH, YEAR = "%d", ("%m", "%b", "%B"), "%Y"
ADJACENT = re.compile("%[a-zA-Z]%")
LONGEST_FORMAT = 32  # characters
WRITE_A_FORMAT = "Write the day as %d, the month as %m, %b or %B and the year as %Y, each once: `%d.%m.%Y`."


def is_date_format(text: str) -> bool:
    """Whether strptime reads whole days by it, and only one way.

    `%y` is refused: 30 is 1930 in one birth date and 2030 in the next one. `%b` and `%B` are English names.
    """
    found = sorted(f"%{directive}" for directive in DIRECTIVE.findall(text))
    wanted = [sorted([DAY, month, YEAR]) for month in MONTH]
    return found in wanted and len(text) <= LONGEST_FORMAT and text.isprintable()


def parse_date(text: str, date_format: str) -> datetime.date | None:
    """The day of a text in this format, in ISO 8601 if the format is empty; None for any other text."""
    if not date_format:
        return parse_full_date(text)
    try:
        date = datetime.datetime.strptime(text, date_format).date()
    except ValueError:
        return None
    digits = "".join(character for character in text if character.isdecimal())
    if not digits.isascii():
        return None
    # Without a separator `1112000` could be two days, so that leading zeros are needed.
    return None if ADJACENT.search(date_format) and date.strftime(date_format) != text else date
