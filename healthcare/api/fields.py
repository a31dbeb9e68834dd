"""Serializer fields that accept one JSON type each, as the OpenAPI description says, and what HTML forms make of it.

DRF's fields convert more: `0` to a string and `"no"` to a boolean, so that a client's mistake would be stored. Forms,
HTTPie and Postman's variables send text alone: `"34"` is a number here, `"true"` a boolean, and an empty text where a
number, a date or a boolean may be null is null. The reverse, null for a text that may be empty, is the empty text.
"""

import datetime
import re
from copy import deepcopy
from functools import cache
from typing import Any, ClassVar

from django.db import models
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.fields import empty

from healthcare import model_fields
from healthcare.characters import visible_text
from healthcare.phones import phone_number
from healthcare.rfc3339 import WRITE_A_DAY, WRITE_A_TIME, parse_date_time, parse_full_date

WHOLE_NUMBER = re.compile(r"-?[0-9]{1,20}", re.ASCII)
BOOLEANS = {"true": True, "false": False}


class TextField(serializers.CharField):
    """Text without invisible characters, unless `trim_whitespace` is off as for a password."""

    def run_validation(self, data: Any = empty) -> Any:
        is_unknown = data is None and self.allow_blank and not self.allow_null
        return super().run_validation("" if is_unknown else data)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        text = super().to_internal_value(data)
        if text.isascii() or not self.trim_whitespace:
            return text
        visible = visible_text(text)
        if not visible and not self.allow_blank:
            self.fail("blank")
        return visible


class VerbatimField(TextField):
    """Text that is validated as it was sent, so that a name with something invisible is refused."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return serializers.CharField.to_internal_value(self, data)


class EmailField(TextField, serializers.EmailField):
    pass


class PhoneField(TextField):
    def to_internal_value(self, data: Any) -> str:
        return phone_number(super().to_internal_value(data))


class MultilineField(TextField):
    def to_internal_value(self, data: Any) -> str:
        return super().to_internal_value(model_fields.with_line_feeds(data) if isinstance(data, str) else data)


class ObjectSerializer(serializers.Serializer):
    """An object inside a record. Its members are texts. It is complete in a PATCH, too.

    A view has refused unknown members already, unless the client prefers lenient handling.
    """

    default_error_messages = {"invalid": "Send an object."}

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, dict):
            self.fail("invalid")
        errors = {
            name: [ErrorDetail(str(field.error_messages["required"]), "required")]
            for name, field in self.fields.items()
            if field.required and name not in data
        }
        unknown = data.keys() - self.fields.keys()
        if unknown and getattr(self.context.get("view"), "handling", "") != "lenient":
            detail = ErrorDetail("Remove this member; these objects have none of this name.", "unknown")
            errors |= {name: [detail] for name in sorted(unknown)}
        if errors:
            raise ValidationError(errors)
        return super().to_internal_value(self.defaults() | data)

    def defaults(self) -> dict[str, Any]:
        return {name: field.default for name, field in self.fields.items() if not field.required}


class ObjectListField(serializers.ListField):
    """A list of at most `maximum` objects; a stored list that is longer may be sent again. null is an empty list."""

    child: ObjectSerializer

    def __init__(self, *, maximum: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.maximum = maximum

    def run_validation(self, data: Any = empty) -> Any:
        return super().run_validation([] if data is None else data)

    def to_internal_value(self, data: Any) -> list[dict[str, str]]:
        if isinstance(data, list) and len(data) > self.maximum and len(data) > self.stored_length():
            raise ValidationError([ErrorDetail(f"Send at most {self.maximum} of them.", "max_length")])
        objects: list[dict[str, str]] = super().to_internal_value(data)
        return objects

    def stored_length(self) -> int:
        record: Any = getattr(self.parent, "instance", None)
        return 0 if record is None else len(getattr(record, str(self.source)))

    def to_representation(self, data: Any) -> Any:
        return data


class WholeNumberField(serializers.IntegerField):
    def run_validation(self, data: Any = empty) -> Any:
        return super().run_validation(None if data == "" and self.allow_null else data)

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, str) and WHOLE_NUMBER.fullmatch(data):
            return super().to_internal_value(int(data))
        # 34.0 is an integer in JSON. A bool is an int in Python only.
        if isinstance(data, bool) or not (isinstance(data, int) or (isinstance(data, float) and data.is_integer())):
            self.fail("invalid")
        return super().to_internal_value(int(data))


class DateField(serializers.DateField):
    """A full-date of RFC 3339, `2026-03-03`."""

    def run_validation(self, data: Any = empty) -> Any:
        return super().run_validation(None if data == "" and self.allow_null else data)

    def to_internal_value(self, data: Any) -> datetime.date:
        day = parse_full_date(data) if isinstance(data, str) else None
        if day is None:
            raise serializers.ValidationError(WRITE_A_DAY, "invalid")
        return day


class DateTimeField(serializers.DateTimeField):
    """A date-time of RFC 3339, `2026-03-03T10:00:00Z`. Answers are in UTC, whatever TIME_ZONE is."""

    def default_timezone(self) -> datetime.tzinfo:
        return datetime.UTC

    def run_validation(self, data: Any = empty) -> Any:
        return super().run_validation(None if data == "" and self.allow_null else data)

    def to_internal_value(self, data: Any) -> datetime.datetime:
        at = parse_date_time(data) if isinstance(data, str) else None
        if at is None:
            raise serializers.ValidationError(WRITE_A_TIME, "invalid")
        return at


class TrueOrFalseField(serializers.BooleanField):
    def run_validation(self, data: Any = empty) -> Any:
        return super().run_validation(None if data == "" and self.allow_null else data)

    def to_internal_value(self, data: Any) -> bool:
        if isinstance(data, str) and data in BOOLEANS:
            return BOOLEANS[data]
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class ModelSerializer(serializers.ModelSerializer):
    """DRF's ModelSerializer with the fields of this module."""

    serializer_field_mapping: ClassVar[dict[type[models.Field], type[serializers.Field]]] = {
        **serializers.ModelSerializer.serializer_field_mapping,
        models.CharField: TextField,
        models.EmailField: EmailField,
        model_fields.PhoneField: PhoneField,
        models.TextField: TextField,
        model_fields.MultilineField: MultilineField,
        models.PositiveIntegerField: WholeNumberField,
        models.PositiveSmallIntegerField: WholeNumberField,
        models.BooleanField: TrueOrFalseField,
        models.DateField: DateField,
        models.DateTimeField: DateTimeField,
    }

    def get_fields(self) -> dict[str, serializers.Field]:
        return {name: copy_field(field) for name, field in fields_of(type(self)).items()}


@cache
def fields_of(serializer: type[serializers.ModelSerializer]) -> dict[str, serializers.Field]:
    """The fields that DRF builds for the class, built once a process. They are unbound: copy one before use."""
    return serializers.ModelSerializer.get_fields(serializer())


def copy_field(field: serializers.Field) -> serializers.Field:
    """A shallow copy. Only a field that contains others needs DRF's deep copy, which constructs the field again."""
    if isinstance(field, serializers.BaseSerializer) or {"child", "child_relation"} & vars(field).keys():
        return deepcopy(field)
    copy: serializers.Field = object.__new__(type(field))
    vars(copy).update(vars(field))
    return copy
