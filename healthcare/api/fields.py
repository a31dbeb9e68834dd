"""Serializer fields that accept exactly one JSON type, as the OpenAPI description says.

DRF's fields convert: `0` to a string, `"no"` to a boolean and `"34"` to a number, so that a client's mistake would be
stored.
"""

from copy import deepcopy
from functools import cache
from typing import Any, ClassVar

from django.db import models
from rest_framework import serializers


class TextField(serializers.CharField):
    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class EmailField(TextField, serializers.EmailField):
    pass


class WholeNumberField(serializers.IntegerField):
    def to_internal_value(self, data: Any) -> int:
        # 34.0 is an integer in JSON. A bool is an int in Python only.
        if isinstance(data, bool) or not (isinstance(data, int) or (isinstance(data, float) and data.is_integer())):
            self.fail("invalid")
        return super().to_internal_value(int(data))


class TrueOrFalseField(serializers.BooleanField):
    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class ModelSerializer(serializers.ModelSerializer):
    """DRF's ModelSerializer with the fields of this module."""

    serializer_field_mapping: ClassVar[dict[type[models.Field], type[serializers.Field]]] = {
        **serializers.ModelSerializer.serializer_field_mapping,
        models.CharField: TextField,
        models.EmailField: EmailField,
        models.PositiveIntegerField: WholeNumberField,
        models.PositiveSmallIntegerField: WholeNumberField,
        models.BooleanField: TrueOrFalseField,
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
