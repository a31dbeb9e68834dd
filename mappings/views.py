"""/api/mappings/: who treats whom."""

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from audit.views import AS_OF, ReadsRecordedViewSet
from doctors.models import DoctorEvent
from healthcare.api.schema import described
from mappings.filters import MappingFilter
from mappings.models import Mapping, MappingEvent
from mappings.serializers import MappingSerializer, PatientDoctorSerializer
from patients.models import Patient, PatientEvent


def path_id(whose: str) -> OpenApiParameter:
    return OpenApiParameter("id", {"type": "integer", "format": "int64", "minimum": 1}, "path", description=whose)


@extend_schema_view(
    list=extend_schema(parameters=[AS_OF]),
    destroy=extend_schema(
        description="Takes the id of the **assignment**. It ends; its history stays.",
        parameters=[path_id("The id of an assignment.")],
    ),
)
@described("mappings", one="an assignment", many="your assignments")
class MappingViewSet(ReadsRecordedViewSet):
    """Who treats whom: a doctor assigned to a patient of yours."""

    queryset = Mapping.objects.none()
    event_model = MappingEvent
    serializer_class = MappingSerializer
    filterset_class = MappingFilter
    ordering_fields = ["started_at", "updated_at"]
    shaped = {"list"}  # to retrieve answers doctors
    http_method_names = ["get", "head", "options", "post", "delete"]

    def get_queryset(self) -> QuerySet:
        if self.as_of:
            then: QuerySet = MappingEvent.objects.owned_by(self.request.user).as_of(self.as_of)
            return then.filter(patient__in=self.patients().values("id"))
        return Mapping.objects.owned_by(self.request.user).current()

    def patients(self) -> QuerySet:
        if self.as_of:
            then: QuerySet = PatientEvent.objects.owned_by(self.request.user).as_of(self.as_of)
            return then
        return Patient.objects.owned_by(self.request.user).active()

    def asked_for(self) -> list[int]:
        return super().asked_for() if self.action in {"retrieve", "doctors"} else []

    @extend_schema(
        operation_id="mappings_doctors",
        summary="List the doctors of a patient",
        description=(
            "Takes the id of a **patient**, while `DELETE` on the same path takes the id of an assignment: both are "
            "part of this API's contract. `GET /api/patients/{id}/doctors/` answers the same without the ambiguity. "
            "`mapping` in each doctor is the id of the assignment, which `DELETE` takes."
        ),
        parameters=[path_id("The id of a patient of yours."), AS_OF],
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
        parameters=[path_id("The id of a patient of yours."), AS_OF],
        responses=PatientDoctorSerializer(many=True),
    )
    def doctors(self, request: Request, pk: str) -> Response:
        """The doctors who treat a patient of the caller, the latest assignment first."""
        mappings = self.get_queryset().filter(patient=get_object_or_404(self.patients(), id=pk).id)
        if self.as_of:
            page = with_past_doctors(self.paginate_queryset, mappings, DoctorEvent.objects.as_of(self.as_of))
        else:
            page = self.paginate_queryset(mappings.select_related("doctor"))
        return self.get_paginated_response(PatientDoctorSerializer(page, many=True).data)


def with_past_doctors(paginate: Callable[[QuerySet], list], mappings: QuerySet, doctors: QuerySet) -> list:
    """A page of past assignments, each with its doctor as of the same time."""
    page = paginate(mappings.filter(doctor__in=doctors.values("id")))
    then = {event.id: event.record() for event in doctors.filter(id__in=[row.doctor_id for row in page])}
    for row in page:
        row.doctor = then[row.doctor_id]
    return page
