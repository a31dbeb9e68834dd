"""What the viewsets share."""

from django.http import Http404
from rest_framework import serializers, viewsets

from healthcare.api.idempotency import IdempotentMixin
from healthcare.ownership import Record, RecordQuerySet


class RecordViewSet(IdempotentMixin, viewsets.ModelViewSet):
    """CRUD of records: the creator is the caller, and DELETE hides. Paths take ids alone."""

    lookup_value_converter = "int"

    def perform_create(self, serializer: serializers.BaseSerializer) -> None:
        serializer.save(created_by=self.request.user)

    def perform_destroy(self, instance: Record) -> None:
        queryset: RecordQuerySet = type(instance)._default_manager.filter(pk=instance.pk)  # type: ignore[assignment]
        if not queryset.end():  # somebody else was faster
            raise Http404
