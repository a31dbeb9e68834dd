"""What a username and an e-mail may hold, and how they are compared."""

import unicodedata

from django.core.validators import RegexValidator

ASCII_EMAIL = RegexValidator(r"\A[\x21-\x7e]*\Z", "Write the e-mail in ASCII (an international domain as xn--…).")

# What the local part of an e-mail may hold (RFC 5321): an e-mail can be the username, and nothing looks alike in ASCII.
USERNAME = RegexValidator(
    r"\A[A-Za-z0-9@.!#$%&'*+/=?^_`{|}~-]+\Z", "Use letters of A to Z, digits and the marks that an e-mail may hold."
)


def normalize(identifier: str) -> str:
    """A username or an e-mail as it is compared: compatibility forms folded (Unicode NFKC), in lower case."""
    return unicodedata.normalize("NFKC", identifier).strip().lower()
