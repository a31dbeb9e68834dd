"""The answer to an import."""

from collections.abc import Mapping
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from healthcare.api.fields import ModelSerializer
from healthcare.imports.models import Import, ImportedLine
from healthcare.imports.rows import LINE_STATUSES


class RowErrorSerializer(serializers.Serializer):
    """An error of a record, as in a problem."""

    pointer = serializers.CharField(help_text="JSON pointer (RFC 6901) to the field; empty for the whole record.")
    code = serializers.CharField(help_text="The kind of error, for programs.")
    detail = serializers.CharField(help_text="What to correct, for people.")


class LikelyRecordSerializer(serializers.Serializer):
    """Who a record is likely the same as: one of the two is there."""

    id = serializers.IntegerField(required=False, help_text="A record.")
    line = serializers.IntegerField(required=False, help_text="An earlier record of the file, by its line.")


class RowResultSerializer(serializers.Serializer):
    """What became of a record of the file."""

    line = serializers.IntegerField(help_text="The physical line where it starts; the header of CSV is line 1.")
    status = serializers.ChoiceField(choices=LINE_STATUSES)
    id = serializers.IntegerField(
        allow_null=True, help_text="The record that it created or names; null where there is none, or not yet."
    )
    errors = RowErrorSerializer(many=True)  # type: ignore[assignment]  # the attribute of the class is no field
    likely = LikelyRecordSerializer(many=True)


class ImportSummarySerializer(serializers.Serializer):
    """The number of records of the file by status."""

    def get_fields(self) -> dict[str, serializers.Field]:
        return {status: serializers.IntegerField() for status in LINE_STATUSES}


class ImportAnswerSerializer(serializers.Serializer):
    """What an import did, or would do."""

    def get_fields(self) -> dict[str, serializers.Field]:
        return {
            "import": serializers.IntegerField(
                allow_null=True, help_text="The id of the import; null in a check, which writes nothing."
            ),
            "results": RowResultSerializer(many=True),
            "summary": ImportSummarySerializer(),
        }


def summary_of(counts: Mapping[str, int]) -> dict[str, Any]:
    return {status: counts.get(status, 0) for status in LINE_STATUSES}


class ImportSerializer(ModelSerializer):
    """An import that was applied."""

    parameters = serializers.SerializerMethodField(help_text="The parameters of the request.")
    summary = serializers.SerializerMethodField()

    class Meta:
        model = Import
        fields = ["id", "kind", "created_at", "created_by", "caller", "parameters", "summary", "undone_at"]
        read_only_fields = fields

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_parameters(self, record: Import) -> Any:
        return record.parameters

    @extend_schema_field(ImportSummarySerializer)
    def get_summary(self, record: Import) -> dict[str, Any]:
        return summary_of(record.summary)


class ImportWithLinesSerializer(ImportSerializer):
    """An import, with a page of its lines."""

    def get_fields(self) -> Any:
        return super().get_fields() | {"results": RowResultSerializer(many=True)}


class UndoneSerializer(serializers.Serializer):
    """What became of the records of an import that was undone, by their ids."""

    deleted = serializers.ListField(child=serializers.IntegerField(), help_text="Deleted; assignments have ended.")
    left = serializers.ListField(
        child=serializers.IntegerField(), help_text="Created by the import, and changed or used since: not deleted."
    )
    updated = serializers.ListField(child=serializers.IntegerField(), help_text="Updated by the import: not undone.")


def result_of(line: ImportedLine) -> dict[str, Any]:
    """A line as `Row.result` gives it."""
    return {
        "line": line.line,
        "status": line.status,
        "id": line.record_id,
        "errors": line.errors,
        "likely": line.likely,
    }
