"""Model fields that more than one domain has."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.forms import CharField as TextFormField
from django.forms import Textarea

from healthcare.characters import visible_text
from healthcare.coverage import covered_by_fast_path
from healthcare.phones import phone_number, validate_phone_number

LARGEST_ID = 2**63 - 1  # of a BigAutoField
ID_TEXT = re.compile(r"\A[0-9]{1,18}\Z")  # an id in a request to the admin; every such number is below LARGEST_ID
LARGEST_FHIR = 64 * 1024  # bytes of what is kept of a FHIR resource beside a row
LINE_BREAKS = {"Cc", "Zl", "Zp"}  # Unicode categories
LINE_BREAK = re.compile("\r\n?|[\u2028\u2029]")


def one_visible_line(value: str) -> None:
    """Refuse line breaks, control characters and a text of which nothing can be seen."""
    if not is_visible_line(value):
        raise ValidationError("Enter one line of visible text.", code="invalid")


def one_line(value: str) -> None:
    """Refuse line breaks and control characters."""
    if not value.isprintable() and not LINE_BREAKS.isdisjoint(map(unicodedata.category, value)):
        raise ValidationError("Enter one line of text.", code="invalid")


def one_line_domain(email: str) -> None:
    """Refuse the line separators that Django's EmailValidator accepts in a domain."""
    one_line(email.rpartition("@")[2])


def lines(value: str) -> None:
    """Refuse control characters and line breaks but for those of ASCII."""
    if not value.isprintable() and not LINE_BREAKS.isdisjoint(
        unicodedata.category(character) for character in value if character not in "\t\n\r"
    ):
        raise ValidationError("Remove the control characters; end a line with a line feed.", code="invalid")


def is_visible_line(value: str) -> bool:
    if value.isascii() and value.isprintable():
        return bool(value) and not value.isspace()  # the sum of what follows, for most texts
    categories = {unicodedata.category(character) for character in visible_text(value)}
    return LINE_BREAKS.isdisjoint(categories) and any(category[0] in "LNPS" for category in categories)


@covered_by_fast_path
class LineField(models.CharField):
    """One line of text without invisible characters."""

    line_validator = staticmethod(one_line)
    migrated_as = "django.db.models.CharField"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if one_visible_line not in self.validators:  # which refuses more
            self.validators = [*self.validators, self.line_validator]

    def deconstruct(self) -> Any:
        """As Django's field, whose column is the same: what a line may hold is no matter of migrations."""
        name, _, args, kwargs = super().deconstruct()
        return name, self.migrated_as, args, kwargs

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        return visible_text(text) if isinstance(text, str) else text


@covered_by_fast_path
class NameField(LineField):
    """The name of a person, in any script; required."""

    line_validator = staticmethod(one_visible_line)
    migrated_as = "healthcare.model_fields.NameField"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 200)
        super().__init__(*args, **kwargs)


@covered_by_fast_path
class AddressField(LineField):
    """A postal address in one line or several."""

    line_validator = staticmethod(lines)

    def formfield(self, **kwargs: Any) -> Any:
        """A text area, whatever widget the admin has for one line: `<input>` would drop the line breaks."""
        widget = Textarea(attrs={"rows": 3, "class": "vLargeTextField"})
        return super().formfield(**kwargs | {"form_class": MultilineFormField, "widget": widget})


@covered_by_fast_path
class EmailField(models.EmailField):
    """An e-mail without invisible characters."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.validators = [*self.validators, one_line_domain]

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.EmailField", args, kwargs

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        return visible_text(text) if isinstance(text, str) else text


@covered_by_fast_path
class PhoneField(models.CharField):
    """A phone number as it was written, in any national form, but in ASCII."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 40)
        super().__init__(*args, **kwargs)
        self.validators = [*self.validators, validate_phone_number]

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        return phone_number(text) if isinstance(text, str) else text


def with_line_feeds(text: str) -> str:
    """The text with one line feed between lines. HTML forms send a carriage return before it."""
    return LINE_BREAK.sub("\n", text)


class MultilineFormField(TextFormField):
    def to_python(self, value: Any) -> Any:
        return super().to_python(with_line_feeds(value) if isinstance(value, str) else value)


@covered_by_fast_path
class MultilineField(models.TextField):
    """Plain text of several lines, with a line feed between them; at most 20,000 characters."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 20_000)
        super().__init__(*args, **kwargs)
        self.validators = [*self.validators, lines]

    def formfield(self, **kwargs: Any) -> Any:
        return super().formfield(**{"form_class": MultilineFormField, **kwargs})


class OctetLength(models.Func):
    """The length of a text in bytes of UTF-8."""

    function = "octet_length"
    output_field = models.IntegerField()


class ObjectListField(models.JSONField):
    """A list of objects that all have these members, each a text; jsonb.

    Values have the members in their declared order, since jsonb does not keep the order in which they were written.
    """

    def __init__(self, *args: Any, members: Sequence[str] = (), **kwargs: Any) -> None:
        kwargs.setdefault("default", list)
        kwargs.setdefault("blank", True)
        super().__init__(*args, **kwargs)
        self.members = tuple(members)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        return name, path, args, kwargs | {"members": list(self.members)}

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        objects = super().from_db_value(value, expression, connection)
        if not isinstance(objects, list):
            return objects
        return [{member: one.get(member, "") for member in self.members} for one in objects]
