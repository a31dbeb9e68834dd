"""/api/imports/: the imports of the owner, and undoing one. See `healthcare.imports`."""

from collections.abc import Iterable
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response

from audit.models import AccessLog, Basis
from healthcare.api.cursors import Keyset
from healthcare.api.idempotency import IdempotentMixin
from healthcare.api.pagination import DEFAULT_LIMIT, MAXIMUM_LIMIT, KeysetPagination
from healthcare.api.schema import PROBLEM
from healthcare.api.unknown_parameters import UnknownParametersViewSet
from healthcare.api.viewsets import ActsForOwner
from healthcare.imports.importer import importers
from healthcare.imports.models import Import, ImportedLine
from healthcare.imports.serializers import ImportSerializer, ImportWithLinesSerializer, UndoneSerializer, result_of
from healthcare.imports.undo import undo


class LinePagination(KeysetPagination):
    """Pages of an import's lines, in the order of the file."""

    key = "line"

    def order(self, queryset: QuerySet, view: Any) -> Keyset:
        return Keyset(queryset, [self.key], descending=False)


PAGING = [
    OpenApiParameter(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": MAXIMUM_LIMIT, "default": DEFAULT_LIMIT},
        description="Maximum number of lines in the answer.",
    ),
    OpenApiParameter("cursor", OpenApiTypes.STR, description="Take it from the `Link` header of another page."),
    OpenApiParameter("count", OpenApiTypes.BOOL, default=False, description="Adds `X-Total-Count`, of the lines."),
]


@extend_schema_view(
    list=extend_schema(operation_id="imports_list", summary="List your imports", description="The latest first."),
)
class ImportViewSet(IdempotentMixin, ActsForOwner, mixins.ListModelMixin, UnknownParametersViewSet):
    """The imports of the owner of the request."""

    writable_by_tokens = True
    queryset = Import.objects.none()
    serializer_class = ImportSerializer
    lookup_value_converter = "int"

    @property
    def paginator(self) -> Any:
        if not hasattr(self, "_paginator"):
            self._paginator = LinePagination() if self.action == "retrieve" else KeysetPagination()
        return self._paginator

    def get_queryset(self) -> QuerySet[Import]:
        return Import.objects.owned_by(self.owner)

    @extend_schema(
        operation_id="imports_retrieve",
        summary="Read an import",
        description="With a page of its lines as `results`, in the order of the file; the `Link` header has the next.",
        parameters=PAGING,
        responses=ImportWithLinesSerializer,
    )
    def retrieve(self, request: Request, pk: int) -> Response:
        record = self.get_object()
        lines: QuerySet[ImportedLine] = record.lines.all()
        page = self.paginate_queryset(lines)
        results = [result_of(line) for line in page or []]
        answer = self.get_paginated_response({**self.get_serializer(record).data, "results": results})
        self.record_access(record, results, answer)
        return answer

    @extend_schema(
        operation_id="imports_undo",
        summary="Undo an import",
        description="Deletes what it has created and nobody has changed, assigned, merged, transferred or put under a "
        "legal hold since; assignments end. The others are `left`, and what the import had `updated` stays as it is. "
        "Undo an import of assignments before those of their patients and doctors. 409 with the code `already_undone` "
        "for one that was undone.",
        request=None,
        responses={200: UndoneSerializer, 409: PROBLEM},
    )
    @action(detail=True, methods=["post"])
    def undo(self, request: Request, pk: int) -> Response:
        record = self.get_object()
        self.check_unused_body(request)
        importer = importers()[record.kind]
        importer.check_undo(request, record.created_by_id)
        undone = undo(record, importer.serializer_class.Meta.model)
        answer = Response(UndoneSerializer(undone).data)
        ids = [*undone.deleted, *undone.left, *undone.updated]
        self.record_access(record, [{"id": key, "likely": []} for key in ids], answer)
        return answer

    def record_access(self, record: Import, results: Iterable[dict[str, Any]], answer: Response) -> None:
        """Add a row to the access log, for the patients of whom these results say something."""
        importer = importers()[record.kind]
        patient_ids = importer.owned_patients(self.owner, importer.patients_in(results))
        if patient_ids:
            AccessLog.objects.record(
                actor=self.request.user.pk or 0,
                action=f"import.{self.action}",
                patient_ids=patient_ids,
                basis=Basis.of(self.owner),
                request_id=getattr(self.request, "request_id", ""),
                outcome=answer.status_code,
                pure_read=self.request.method in SAFE_METHODS,
            )
