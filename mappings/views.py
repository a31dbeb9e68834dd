"""/api/mappings/, and the lists of doctors and patients that mappings connect."""

from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ValidationError

from audit.exports import RecordedExportMixin
from audit.views import AS_OF, ReadsRecordedViewSet
from doctors.models import Doctor, DoctorEvent
from healthcare.api.pagination import read_flag
from healthcare.api.schema import describe_operations, describe_view
from healthcare.api.viewsets import NestedListViewSet
from healthcare.coverage import covered_by_fast_path
from healthcare.fastpath.views import FastPathMixin
from healthcare.imports.mixins import ImportMixin
from healthcare.ownership import Owner
from mappings.filters import MappingFilter
from mappings.imports import MappingImporter
from mappings.models import Mapping, MappingEvent
from mappings.serializers import (
    DoctorPatientSerializer,
    MappingChangeSerializer,
    MappingSerializer,
    PatientDoctorSerializer,
)
from patients.merges import survivor_path
from patients.models import Patient, PatientEvent

ACTIVE = OpenApiParameter(
    "active",
    OpenApiTypes.BOOL,
    default=True,
    description="With `false` the past assignments instead: those that have an `ended_at`. Not together with `as_of`.",
)


def path_id(whose: str) -> OpenApiParameter:
    return OpenApiParameter("id", {"type": "integer", "format": "int64", "minimum": 1}, "path", description=whose)


@covered_by_fast_path
class OwnersMappingsViewSet(ReadsRecordedViewSet):
    """The base of the viewsets that read the owner's mappings. The fast path serves requests without `active`."""

    queryset = Mapping.objects.none()
    event_model = MappingEvent
    actions_on_ended = frozenset({"retrieve"})
    action_roles = {**ReadsRecordedViewSet.action_roles, "destroy": "write"}

    @staticmethod
    def scope(owner: Owner) -> QuerySet:
        return Mapping.objects.owned_by(owner).of_active_patients()

    @classmethod
    def in_state(cls, records: QuerySet, action: str | None) -> QuerySet:
        """A past assignment can be read and corrected; what lists and ends assignments sees active ones."""
        return records if action in {"retrieve", "partial_update", "history"} else records.active()  # type: ignore[attr-defined]

    def get_queryset(self) -> QuerySet:
        active = self.action != "list" or read_flag(self.request.query_params, "active", default=True)
        if self.as_of and not active:
            raise ValidationError({"active": ["`active` cannot be combined with `as_of`."]})
        if self.as_of:
            return super().get_queryset().filter(patient__in=self.get_patients().values("id"))
        return super().get_queryset() if active else self.scope(self.owner).hidden()  # type: ignore[attr-defined]

    def get_patients(self) -> QuerySet:
        """The owner's active patients, now or as of the time that the request names."""
        if self.as_of:
            events: QuerySet = PatientEvent.objects.owned_by(self.owner).as_of(self.as_of)
            return events
        return Patient.objects.owned_by(self.owner).active()

    def get_doctors(self) -> QuerySet:
        """The active doctors, now or as of the time that the request names."""
        doctors: QuerySet = DoctorEvent.objects.as_of(self.as_of) if self.as_of else Doctor.objects.active()
        return doctors


@describe_view(
    list=extend_schema(parameters=[AS_OF, ACTIVE]),
    partial_update=extend_schema(
        description="Takes the id of the **assignment**, a past one too. `ended_at` ends it.",
        parameters=[path_id("The id of an assignment.")],
        request=MappingChangeSerializer,
        responses=MappingSerializer,
    ),
    retrieve=extend_schema(
        operation_id="assignments_retrieve",
        tags=["mappings"],
        description="An assignment, a past one too, with the `ETag` that `If-Match` of PATCH and DELETE takes.",
        parameters=[path_id("The id of an assignment."), AS_OF],
    ),
    destroy=extend_schema(
        description="Takes the id of the **assignment**. It ends; its history stays.",
        parameters=[path_id("The id of an assignment.")],
    ),
    import_records=extend_schema(operation_id="mappings_import", summary="Import assignments"),
)
@describe_operations("mappings", one="an assignment", many="your assignments")
class MappingViewSet(FastPathMixin, RecordedExportMixin, ImportMixin, OwnersMappingsViewSet):
    """Who treats whom: a doctor assigned to a patient of yours."""

    serializer_class = MappingSerializer
    serializer_classes = {"partial_update": MappingChangeSerializer}
    importer_class = MappingImporter
    filterset_class = MappingFilter
    ordering_fields = ["started_at", "updated_at"]
    fast_actions = frozenset({"list", "retrieve", "history"})
    reads_replicas = True

    @staticmethod
    def location_base(path: str) -> str:
        return path.removesuffix("mappings/") + "assignments/"  # GET /api/mappings/<id>/ takes the id of a patient


@covered_by_fast_path
class NestedMappingListViewSet(FastPathMixin, OwnersMappingsViewSet, NestedListViewSet):
    """The doctors of a patient or the patients of a doctor, each with the id of the mapping between them."""

    association_id_field = "mapping"
    access_log_action: ClassVar[str]
    fast_actions = frozenset({"list"})
    reads_replicas = True

    @classmethod
    def access_action(cls, action: str) -> str:
        return cls.access_log_action

    def get_related_events(self) -> QuerySet:
        """The events of the related records, for a list as of a time."""
        raise NotImplementedError

    def paginate_related(self, associations: QuerySet) -> list[tuple[Any, Any]]:
        if not self.as_of:
            return super().paginate_related(associations)
        events = self.get_related_events()
        page = self.paginate_queryset(associations.filter(**{f"{self.related}__in": events.values("id")}))
        keys = [getattr(mapping, f"{self.related}_id") for mapping in page]
        records = {event.id: event for event in events.filter(id__in=keys)}
        return [(mapping, records[key]) for mapping, key in zip(page, keys, strict=True)]


@describe_view(
    list=extend_schema(
        operation_id="patients_doctors",
        summary="List the doctors of a patient",
        description=(
            "The doctors who treat a patient of yours, the latest assignment first. `mapping` in each is the id that "
            "`PATCH` and `DELETE /api/mappings/{id}/` take. `GET /api/mappings/{id}/` answers the same."
        ),
        parameters=[path_id("The id of a patient of yours."), AS_OF, ACTIVE],
        responses=PatientDoctorSerializer(many=True),
    )
)
class PatientDoctorsViewSet(NestedMappingListViewSet):
    """The doctors who treat a patient of yours."""

    parent = "patient"
    related = "doctor"
    serializer_class = PatientDoctorSerializer
    access_log_action = "mapping.doctors"
    path_names_patient = True
    successor_actions = frozenset({"list"})

    @staticmethod
    def parent_scope(owner: Owner) -> QuerySet:
        return Patient.objects.owned_by(owner).active()

    @covered_by_fast_path
    def get_parents(self) -> QuerySet:
        return self.get_patients()

    @covered_by_fast_path
    def get_related_events(self) -> QuerySet:
        return self.get_doctors()

    def successor(self) -> str | None:
        return survivor_path(self.owner, self.kwargs["pk"])


@describe_view(
    list=extend_schema(
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
)
class MappingDoctorsViewSet(PatientDoctorsViewSet):
    """The doctors who treat a patient of yours, at the path `/api/mappings/<patient_id>/` of the contract."""

    access_log_action = "mapping.retrieve"


@describe_view(
    list=extend_schema(
        operation_id="doctors_patients",
        summary="List your patients of a doctor",
        description=(
            "The patients of yours whom a doctor treats, the latest assignment first. `mapping` in each is the id that "
            "`PATCH` and `DELETE /api/mappings/{id}/` take."
        ),
        parameters=[path_id("The id of a doctor."), AS_OF, ACTIVE],
        responses=DoctorPatientSerializer(many=True),
    )
)
class DoctorPatientsViewSet(NestedMappingListViewSet):
    """Your patients whom a doctor treats."""

    parent = "doctor"
    related = "patient"
    serializer_class = DoctorPatientSerializer
    access_log_action = "mapping.patients"

    @staticmethod
    def parent_scope(owner: Owner) -> QuerySet:
        return Doctor.objects.active()

    @covered_by_fast_path
    def get_parents(self) -> QuerySet:
        return self.get_doctors()

    @covered_by_fast_path
    def get_related_events(self) -> QuerySet:
        return self.get_patients()
