"""/api/mappings/: who treats whom."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from healthcare.api.schema import described
from healthcare.api.viewsets import RecordViewSet
from mappings.models import Mapping
from mappings.serializers import MappingSerializer, PatientDoctorSerializer
from patients.models import Patient


def path_id(whose: str) -> OpenApiParameter:
    return OpenApiParameter("id", {"type": "integer", "format": "int64", "minimum": 1}, "path", description=whose)


@extend_schema_view(
    destroy=extend_schema(
        description="Takes the id of the **assignment**. It ends; its history stays.",
        parameters=[path_id("The id of an assignment.")],
    )
)
@described("mappings", one="an assignment", many="your assignments")
class MappingViewSet(RecordViewSet):
    """Who treats whom: a doctor assigned to a patient of yours."""

    queryset = Mapping.objects.none()
    serializer_class = MappingSerializer
    http_method_names = ["get", "head", "options", "post", "delete"]

    def get_queryset(self) -> QuerySet[Mapping]:
        return Mapping.objects.owned_by(self.request.user).current()

    @extend_schema(
        operation_id="mappings_doctors",
        summary="List the doctors of a patient",
        description=(
            "Takes the id of a **patient**, while `DELETE` on the same path takes the id of an assignment: both are "
            "part of this API's contract. `GET /api/patients/{id}/doctors/` answers the same without the ambiguity. "
            "`mapping` in each doctor is the id of the assignment, which `DELETE` takes."
        ),
        parameters=[path_id("The id of a patient of yours.")],
        responses=PatientDoctorSerializer(many=True),
    )
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.doctors(request, **kwargs)

    @extend_schema(
        operation_id="patients_doctors",
        summary="List the doctors of a patient",
        description=(
            "The doctors who treat a patient of yours, the latest assignment first. `mapping` in each is the id that "
            "`DELETE /api/mappings/{id}/` takes. `GET /api/mappings/{id}/` answers the same."
        ),
        parameters=[path_id("The id of a patient of yours.")],
        responses=PatientDoctorSerializer(many=True),
    )
    def doctors(self, request: Request, pk: str) -> Response:
        """The doctors who treat a patient of the caller, the latest assignment first."""
        patient = get_object_or_404(Patient.objects.owned_by(request.user).active(), pk=pk)
        mappings = self.get_queryset().filter(patient=patient).select_related("doctor")
        doctors = PatientDoctorSerializer(self.paginate_queryset(mappings), many=True)
        return self.get_paginated_response(doctors.data)
