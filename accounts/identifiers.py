"""The allowed characters of usernames and e-mails, and how they are compared."""

import unicodedata

from django.core.validators import RegexValidator

LONGEST_IDENTIFIER = 1024  # characters as typed, with some space around

ASCII_EMAIL = RegexValidator(r"\A[\x21-\x7e]*\Z", "Write the e-mail in ASCII (an international domain as xn--…).")

# The characters of an e-mail's local part (RFC 5321), since an e-mail can be the username. ASCII has no homoglyphs.
USERNAME = RegexValidator(
    r"\A[A-Za-z0-9@.!#$%&'*+/=?^_`{|}~-]+\Z", "Use letters of A to Z, digits and the marks that an e-mail may hold."
)

# `X-Acting-For: self` works on the caller's own records.
NOT_RESERVED = RegexValidator(
    r"\A[Ss][Ee][Ll][Ff]\Z", "This username is reserved; choose another one.", inverse_match=True
)


# Of a clinic: requests name it, and `X-Acting-For` takes digits alone for an id.
NOT_AN_ID = RegexValidator(
    r"\A[0-9]+\Z", "Add a letter: `X-Acting-For` takes digits alone for an id.", inverse_match=True
)


def normalize_identifier(identifier: str) -> str:
    """A username or an e-mail in the form that is compared: Unicode NFKC, stripped, in lower case.

    Text that is too long for either stays as it is, since normalizing takes time that grows with the square of the
    combining marks.
    """
    if len(identifier) > LONGEST_IDENTIFIER:
        return identifier
    return unicodedata.normalize("NFKC", identifier).strip().lower()
