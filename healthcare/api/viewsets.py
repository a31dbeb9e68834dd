"""What the viewsets of the records share."""

from typing import Any

from rest_framework import serializers, viewsets

from healthcare.api.concurrency import ConditionalRequests, lost
from healthcare.ownership import Record


class RecordViewSet(ConditionalRequests, viewsets.ModelViewSet):
    """CRUD of records: the creator is the caller, and DELETE hides. Paths take ids alone."""

    lookup_value_converter = "int"

    def get_object(self) -> Any:
        record = super().get_object()
        self.require(record)
        return record

    def perform_create(self, serializer: serializers.BaseSerializer) -> None:
        serializer.save(created_by=self.request.user)

    def perform_destroy(self, instance: Record) -> None:
        if not instance.row().end():  # somebody else was faster
            raise lost(instance)
