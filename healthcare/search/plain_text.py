"""Normalization in Python for texts that need little: the results of the SQL functions in `normalization`, without a
statement. Each function returns None for a text that it leaves to PostgreSQL.
"""

import re

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PLAIN_NAME = re.compile("[A-Za-z ]{0,64}")
MOST_WORDS = 12  # of `search_asked`, and fewer than a long name has
EXTENSION_OR_BRACKET = re.compile("[(xX#]")
NO_DIGIT = re.compile("[^0-9]+")


def name_words(name: str) -> list[str] | None:
    """The distinct words of a name, as `search_words` gives them. Needs a database that makes LETTERS of capitals."""
    if not PLAIN_NAME.fullmatch(name):
        return None
    words = [*dict.fromkeys(name.lower().split())]
    return words if len(words) <= MOST_WORDS else None


def asked_words(name: str) -> list[str] | None:
    """The words that a search for this name looks up, as `search_asked` gives them: the longest first. The collation
    of the database orders words of one length. Needs what `name_words` needs."""
    words = name_words(name)
    if words is None or len({*map(len, words)}) < len(words):
        return None
    return sorted(words, key=len, reverse=True)


def phone_digits(phone: str) -> str | None:
    """The digits of a phone number from the last to the first, as `search_digits` gives them."""
    if not phone.isascii() or EXTENSION_OR_BRACKET.search(phone):
        return None
    return NO_DIGIT.sub("", phone).lstrip("0")[::-1]
