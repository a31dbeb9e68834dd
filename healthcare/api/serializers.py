"""What the serializers of the records share."""

from collections.abc import Callable
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db.models import QuerySet
from rest_framework import serializers

from healthcare.api.conditional_requests import lost
from healthcare.api.fields import ModelSerializer, WholeNumberField
from healthcare.model_fields import LARGEST_ID
from healthcare.ownership import Record, RecordQuerySet


class IdField(serializers.PrimaryKeyRelatedField):
    """The id of a record within `scope(user)`; any other id reads like one that does not exist."""

    def __init__(self, *, scope: Callable[[AbstractBaseUser | AnonymousUser], QuerySet], **kwargs: Any) -> None:
        self.scope = scope
        super().__init__(pk_field=WholeNumberField(min_value=1, max_value=LARGEST_ID), **kwargs)

    def get_queryset(self) -> QuerySet:
        return self.scope(self.context["request"].user)


class RecordSerializer(ModelSerializer):
    """Writes only what changes: two PATCHes of different fields both survive.

    Of a list and of one record it answers what `?fields=` and `?include=` ask for.
    """

    @property
    def own_fields(self) -> list[str]:
        """The names of the record's own fields, without what may be included."""
        return list(super().get_fields())

    def get_fields(self) -> dict[str, serializers.Field]:
        fields = super().get_fields()
        if self.parent and self.parent is not self.root:  # included in another record
            return fields
        shape = self.context.get("shape")
        if shape and shape.fields is not None:
            fields = {name: field for name, field in fields.items() if name in shape.fields}
        return fields | {name: inclusion.field() for name, inclusion in self.context.get("inclusions", {}).items()}

    def get_validators(self) -> list[Any]:
        """None that ask the database before a write: its constraints decide, a check would race."""
        return []

    def create(self, validated_data: dict[str, Any]) -> Any:
        return self.Meta.model._default_manager.create(**validated_data)  # type: ignore[attr-defined]

    def update(self, instance: Record, validated_data: dict[str, Any]) -> Record:
        """Raises Http404 when the record was deleted since it was read, PreconditionFailed when it is pinned and was
        changed."""
        changes = {field: value for field, value in validated_data.items() if getattr(instance, field) != value}
        if not changes:
            return instance
        stamps = self.changeable(instance.row()).update_returning(changes, "version", "updated_at")
        if stamps is None:
            raise lost(instance)
        # The row was locked when it was read, so its other columns have not changed since.
        for field, value in {**changes, **stamps}.items():
            setattr(instance, field, value)
        return instance

    def changeable(self, rows: RecordQuerySet) -> RecordQuerySet:
        """Which of these may be written: those that are not hidden."""
        return rows.active()
