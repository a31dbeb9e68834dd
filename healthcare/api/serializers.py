"""The base serializer of all records."""

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers

from healthcare.api.acting_for import owner_of
from healthcare.api.fields import ModelSerializer, WholeNumberField
from healthcare.model_fields import LARGEST_ID
from healthcare.ownership import Record, RecordOwner


class IdField(serializers.PrimaryKeyRelatedField):
    """The id of a record within `scope(owner)`; any other id is treated as missing."""

    def __init__(self, *, scope: Callable[[RecordOwner], QuerySet], **kwargs: Any) -> None:
        self.scope = scope
        super().__init__(pk_field=WholeNumberField(min_value=1, max_value=LARGEST_ID), **kwargs)

    def get_queryset(self) -> QuerySet:
        return self.scope(owner_of(self.context["request"]))


class RecordSerializer(ModelSerializer):
    """Writes only the columns that change: two concurrent PATCHes of different fields both survive.

    Answers the fields and inclusions that `?fields=` and `?include=` select.
    """

    @property
    def own_fields(self) -> list[str]:
        """The names of the record's own fields, without what may be included."""
        return list(super().get_fields())

    def get_fields(self) -> dict[str, serializers.Field]:
        fields = super().get_fields()
        if self.parent and self.parent is not self.root:  # included in another record
            return fields
        selection = self.context.get("field_selection")
        if selection and selection.fields is not None:
            fields = {name: field for name, field in fields.items() if name in selection.fields}
        return fields | {name: inclusion.field() for name, inclusion in self.context.get("inclusions", {}).items()}

    def get_validators(self) -> list[Any]:
        """No validator that queries the database before a write: it would race, so the constraint decides."""
        return []

    def create(self, validated_data: dict[str, Any]) -> Any:
        return self.Meta.model._default_manager.create(**validated_data)  # type: ignore[attr-defined]

    def update(self, instance: Record, validated_data: dict[str, Any]) -> Record:
        """Save the fields that differ, by `Model.save`, so that signals and overrides of the model apply.

        The view has locked the row when it read it.
        """
        changed = [field for field, value in validated_data.items() if getattr(instance, field) != value]
        if changed:
            for field in changed:
                setattr(instance, field, validated_data[field])
            instance.save(update_fields=changed)
            instance.refresh_from_db(fields=["version", "updated_at"])  # a trigger of the database sets them
        return instance
