"""How passwords are prepared before they are hashed, and which are refused for being obvious here."""

import re
import unicodedata

from django.core.exceptions import ValidationError

# Longer text is compared as it was typed: normalizing takes time that grows with the square of the combining marks.
LONGEST_NORMALIZED = 1024  # characters
CONTEXT_WORDS = ("healthcare", "hospital", "clinic", "patient", "doctor")
CONTEXT_PASSWORD = re.compile(rf"([0-9]*)(?:{'|'.join(CONTEXT_WORDS)})s?([0-9]*)")


def prepare_password(password: str) -> str:
    """The password in the form that is hashed: the OpaqueString profile of RFC 8265, which maps every space to U+0020
    and normalizes to NFC. So a password works from a keyboard that composes its letters otherwise."""
    if password.isascii() or len(password) > LONGEST_NORMALIZED:
        return password
    spaced = "".join(" " if unicodedata.category(character) == "Zs" else character for character in password)
    return unicodedata.normalize("NFC", spaced)


def spellings(password: str) -> list[str]:
    """The forms in which the password may have been hashed: prepared, and before passwords were, as it was typed.

    They depend on the password alone, so that checking it takes the same work for every account.
    """
    if len(password) > LONGEST_NORMALIZED:
        return [password]
    return list(dict.fromkeys([prepare_password(password), password, unicodedata.normalize("NFD", password)]))


class ContextWordValidator:
    """Refuses a word that this service suggests (NIST SP 800-63B section 5.1.1.2), also with up to four digits.

    Case, punctuation and a plural make no difference.
    """

    def validate(self, password: str, user: object = None) -> None:
        if len(password) > LONGEST_NORMALIZED:
            return
        letters = re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", password).casefold())
        found = CONTEXT_PASSWORD.fullmatch(letters)
        if found and len("".join(found.groups())) <= 4:
            raise ValidationError(
                "This password is a word that is easily guessed here; choose another one.", code="password_context_word"
            )

    def get_help_text(self) -> str:
        return f"Your password can’t be one of {', '.join(CONTEXT_WORDS)} with up to four digits."


class ClinicValidator:
    """Refuses every password for a clinic, in the admin, in commands and in the API."""

    def validate(self, password: str, user: object = None) -> None:
        if getattr(user, "is_clinic", False):
            raise ValidationError("A clinic has no password: nobody logs in to it.", code="password_of_clinic")

    def get_help_text(self) -> str:
        return ""
