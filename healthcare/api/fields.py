"""Fields that take one JSON type each, as the OpenAPI description says. DRF's own would read `0` as a text, `"no"` as a
boolean and `"34"` as a number: a client's mistake would be kept as a value."""

from copy import copy
from functools import cache
from typing import Any, ClassVar

from django.db import models
from django.utils.functional import cached_property
from rest_framework import serializers
from rest_framework.utils.serializer_helpers import BindingDict


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

    @cached_property
    def fields(self) -> BindingDict:
        """The fields of the class, made once for all of its serializers: copies, each with its own parent."""
        made = fields_of(type(self))
        if made is None:
            return super().fields
        own = BindingDict(self)  # type: ignore[no-untyped-call]
        for name, field in made.items():
            twin = copy(field)
            twin.parent = self  # type: ignore[assignment]
            own.fields[name] = twin
        return own


@cache
def fields_of(serializer: type[serializers.ModelSerializer]) -> dict[str, serializers.Field] | None:
    """Bound to a serializer without a context; None when a field has others in it, which would keep that parent."""
    bound = BindingDict(serializer())  # type: ignore[no-untyped-call]
    for name, field in serializer().get_fields().items():
        bound[name] = field
    nested = any({"child", "child_relation", "fields"} & set(dir(field)) for field in bound.values())
    return None if nested else dict(bound.fields)
