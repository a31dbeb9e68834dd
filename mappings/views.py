"""/api/mappings/: who treats whom."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.exceptions import ValidationError
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from audit.views import AS_OF, ReadsRecordedViewSet
from doctors.models import Doctor, DoctorEvent
from healthcare.api.pagination import read_flag
from healthcare.api.schema import described
from healthcare.api.viewsets import OtherEnds
from mappings.filters import MappingFilter
from mappings.models import Mapping, MappingEvent
from mappings.serializers import (
    DoctorPatientSerializer,
    MappingChangeSerializer,
    MappingSerializer,
    PatientDoctorSerializer,
)
from patients.merges import successor
from patients.models import Patient, PatientEvent

LISTS = {"list", "retrieve", "doctors", "patients"}
ACTIVE = OpenApiParameter(
    "active",
    OpenApiTypes.BOOL,
    default=True,
    description="With `false` the past assignments instead: those that have an `ended_at`. Not together with `as_of`.",
)


def path_id(whose: str) -> OpenApiParameter:
    return OpenApiParameter("id", {"type": "integer", "format": "int64", "minimum": 1}, "path", description=whose)


@extend_schema_view(
    list=extend_schema(parameters=[AS_OF, ACTIVE]),
    partial_update=extend_schema(
        description="Takes the id of the **assignment**, a past one too. `ended_at` ends it.",
        parameters=[path_id("The id of an assignment.")],
        request=MappingChangeSerializer,
        responses=MappingSerializer,
    ),
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
    filterset_class = MappingFilter
    ordering_fields = ["started_at", "updated_at"]
    shaped = {"list"}  # to retrieve answers doctors
    succeeded = frozenset({"retrieve", "doctors"})  # those that take the id of a patient
    http_method_names = ["get", "head", "options", "post", "patch", "delete"]
    other_ends = {
        "retrieve": OtherEnds("patient", "doctor", PatientDoctorSerializer),
        "doctors": OtherEnds("patient", "doctor", PatientDoctorSerializer),
        "patients": OtherEnds("doctor", "patient", DoctorPatientSerializer),
    }

    def get_serializer_class(self) -> type[MappingSerializer]:
        return MappingChangeSerializer if self.action == "partial_update" else MappingSerializer

    def get_queryset(self) -> QuerySet:
        past = self.action in LISTS and not read_flag(self.request, "active", default=True)
        if self.as_of:
            if past:
                raise ValidationError({"active": ["What was at a time is what was active then."]})
            then: QuerySet = MappingEvent.objects.owned_by(self.request.user).as_of(self.as_of)
            return then.filter(patient__in=self.ends_of("patient").values("id"))
        mine = Mapping.objects.owned_by(self.request.user).of_active_patients()
        if self.action in {"partial_update", "history"}:
            return mine
        return mine.hidden() if past else mine.active()

    def ends_of(self, field: str) -> QuerySet:
        if field == "doctor":
            doctors: QuerySet = DoctorEvent.objects.as_of(self.as_of) if self.as_of else Doctor.objects.active()
            return doctors
        if self.as_of:
            patients: QuerySet = PatientEvent.objects.owned_by(self.request.user).as_of(self.as_of)
            return patients
        return Patient.objects.owned_by(self.request.user).active()

    def successor(self) -> str | None:
        return successor(self.request.user, self.kwargs["pk"])

    def asked_for(self) -> list[int]:
        return super().asked_for() if self.action in {"retrieve", "doctors"} else []

    @extend_schema(
        operation_id="mappings_doctors",
        summary="List the doctors of a patient",
        description=(
            "Takes the id of a **patient**, while `PATCH` and `DELETE` on the same path take the id of an assignment: "
            "all are part of this API's contract. `GET /api/patients/{id}/doctors/` answers the same without the "
            "ambiguity. `mapping` in each doctor is the id of the assignment, which `PATCH` and `DELETE` take."
        ),
        parameters=[path_id("The id of a patient of yours."), AS_OF, ACTIVE],
        responses=PatientDoctorSerializer(many=True),
    )
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.doctors(request, **kwargs)

    @extend_schema(
        operation_id="patients_doctors",
        summary="List the doctors of a patient",
        description=(
            "The doctors who treat a patient of yours, the latest assignment first. `mapping` in each is the id that "
            "`PATCH` and `DELETE /api/mappings/{id}/` take. `GET /api/mappings/{id}/` answers the same."
        ),
        parameters=[path_id("The id of a patient of yours."), AS_OF, ACTIVE],
        responses=PatientDoctorSerializer(many=True),
    )
    def doctors(self, request: Request, pk: str) -> Response:
        """The doctors who treat a patient of the caller, the latest assignment first."""
        return self.page_of(pk, DoctorEvent.objects.all())

    @extend_schema(
        operation_id="doctors_patients",
        summary="List your patients of a doctor",
        description=(
            "The patients of yours whom a doctor treats, the latest assignment first. `mapping` in each is the id that "
            "`PATCH` and `DELETE /api/mappings/{id}/` take."
        ),
        parameters=[path_id("The id of a doctor."), AS_OF, ACTIVE],
        responses=DoctorPatientSerializer(many=True),
    )
    def patients(self, request: Request, pk: str) -> Response:
        """The caller's patients whom a doctor treats, the latest assignment first."""
        return self.page_of(pk, PatientEvent.objects.owned_by(request.user))

    def page_of(self, pk: str, events: QuerySet) -> Response:
        """A page of the doctors or patients at the other end, now or then, each with its `mapping` id."""
        ends, mappings = self.other_ends[self.action], self.get_queryset()
        mappings = mappings.filter(**{ends.of: get_object_or_404(self.ends_of(ends.of), id=pk).id})
        if self.as_of:
            events = events.as_of(self.as_of)  # type: ignore[attr-defined]
            page = self.paginate_queryset(mappings.filter(**{f"{ends.answered}__in": events.values("id")}))
            keys = [getattr(mapping, f"{ends.answered}_id") for mapping in page]
            then = {event.id: event for event in events.filter(id__in=keys)}
            others = [then[key] for key in keys]
        else:
            page = self.paginate_queryset(mappings.select_related(ends.answered))
            others = [getattr(mapping, ends.answered) for mapping in page]
        for mapping, other in zip(page, others, strict=True):
            other.mapping = mapping.id
        return self.get_paginated_response(ends.serializer(others, many=True).data)
