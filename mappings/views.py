"""/api/mappings/: who treats whom."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from healthcare.api.viewsets import RecordViewSet
from mappings.models import Mapping
from mappings.serializers import MappingSerializer, PatientDoctorSerializer
from patients.models import Patient


class MappingViewSet(RecordViewSet):
    """The caller's assignments.

    `GET /api/mappings/<patient_id>/` lists a patient's doctors while `DELETE /api/mappings/<id>/` takes an assignment's
    id: the contract's own words. `GET /api/patients/<patient_id>/doctors/` says the former without the ambiguity.
    """

    queryset = Mapping.objects.none()
    serializer_class = MappingSerializer
    http_method_names = ["get", "head", "post", "delete"]

    def get_queryset(self) -> QuerySet[Mapping]:
        return Mapping.objects.owned_by(self.request.user).current()

    @extend_schema(operation_id="mappings_doctors", responses=PatientDoctorSerializer(many=True))
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.doctors(request, **kwargs)

    @extend_schema(operation_id="patients_doctors", responses=PatientDoctorSerializer(many=True))
    def doctors(self, request: Request, pk: str) -> Response:
        """The doctors who treat a patient of the caller, the latest assignment first."""
        patient = get_object_or_404(Patient.objects.owned_by(request.user).active(), pk=pk)
        mappings = self.get_queryset().filter(patient=patient).select_related("doctor")
        doctors = PatientDoctorSerializer(self.paginate_queryset(mappings), many=True)
        return self.get_paginated_response(doctors.data)
