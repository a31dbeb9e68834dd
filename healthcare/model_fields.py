"""Model fields that more than one domain has."""

import unicodedata
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models

from healthcare.coverage import covered_by_fast_path

LARGEST_ID = 2**63 - 1  # of a BigAutoField
PHONE = RegexValidator(
    r"\A\+?[0-9()./ -]*(\s?(x|ext\.?)\s?[0-9]+)?\Z",
    "Enter a phone number: digits with spaces or ( ) . / -, a + in front and an extension (x123) behind if need be.",
)


def one_visible_line(value: str) -> None:
    """Refuse control characters and a text of which nothing can be seen, such as zero-width spaces alone."""
    if not one_line(value):
        raise ValidationError("Enter one line of visible text.", code="invalid")


def one_line(value: str) -> bool:
    categories = {unicodedata.category(character) for character in value}
    return "Cc" not in categories and any(category[0] in "LNPS" for category in categories)


@covered_by_fast_path
class NameField(models.CharField):
    """The name of a person, in any script; required."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 200)
        super().__init__(*args, **kwargs)
        self.validators = [*self.validators, one_visible_line]


@covered_by_fast_path
class PhoneField(models.CharField):
    """A phone number as it was written; any national form."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 40)
        super().__init__(*args, **kwargs)
        self.validators = [*self.validators, PHONE]
