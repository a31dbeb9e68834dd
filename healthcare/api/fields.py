"""Fields that take one JSON type each, as the OpenAPI description says. DRF's own would read `0` as a text, `"no"` as a
boolean and `"34"` as a number: a client's mistake would be kept as a value."""

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
        # 34.0 is a whole number in JSON; True is an int in Python alone.
        if isinstance(data, bool) or not (isinstance(data, int) or (isinstance(data, float) and data.is_integer())):
            self.fail("invalid")
        return super().to_internal_value(int(data))


class TrueOrFalseField(serializers.BooleanField):
    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class ModelSerializer(serializers.ModelSerializer):
    """DRF's, with these fields for the columns of a model."""

    serializer_field_mapping: ClassVar[dict[type[models.Field], type[serializers.Field]]] = {
        **serializers.ModelSerializer.serializer_field_mapping,
        models.CharField: TextField,
        models.EmailField: EmailField,
        models.PositiveIntegerField: WholeNumberField,
        models.PositiveSmallIntegerField: WholeNumberField,
        models.BooleanField: TrueOrFalseField,
    }

    def get_fields(self) -> dict[str, serializers.Field]:
        return {name: copied(field) for name, field in fields_of(type(self)).items()}


@cache
def fields_of(serializer: type[serializers.ModelSerializer]) -> dict[str, serializers.Field]:
    """The fields of the class as DRF makes them, once for all of its serializers; not bound, to be copied."""
    return serializers.ModelSerializer.get_fields(serializer())


def copied(field: serializers.Field) -> serializers.Field:
    """DRF's own copy makes the field anew, which only one with others inside needs."""
    if isinstance(field, serializers.BaseSerializer) or {"child", "child_relation"} & vars(field).keys():
        return deepcopy(field)
    twin: serializers.Field = object.__new__(type(field))
    vars(twin).update(vars(field))
    return twin
