"""The admin of mappings. A mapping that a member of staff adds belongs to the owner of its patient."""

from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from audit.admin.reads import ReadsRecordedAdmin
from doctors.admin import DoctorAdmin
from doctors.models import DOCTOR_SEARCH, Doctor
from healthcare.admin.export import ExportRecords
from healthcare.admin.home import Panel
from healthcare.admin.list_filters import DayRangeFilter, OwnerFilter, RecordIdFilter
from healthcare.admin.record_lists import FoundThrough, StateFilter
from healthcare.admin.records import DeletionObstacle, RecordAdmin
from mappings.admin_actions import DeleteAssignments, EndAssignments, RestoreAssignments
from mappings.admin_forms import MappingForm
from mappings.admin_home import read_assignments, read_busiest_doctors
from mappings.admin_inlines import AssignmentInline
from mappings.models import Mapping
from mappings.serializers import MappingSerializer
from patients.admin import PatientAdmin
from patients.models import PATIENT_SEARCH


class AssignedPatientFilter(RecordIdFilter):
    title, column = "patient", "patient"
    fields: ClassVar = {"patient": ("Id of the patient", "number")}


class AssignedDoctorFilter(RecordIdFilter):
    title, column = "doctor", "doctor"
    fields: ClassVar = {"doctor": ("Id of the doctor", "number")}


@admin.register(Mapping)
class MappingAdmin(ReadsRecordedAdmin, RecordAdmin):
    home_panels = [
        Panel("Active assignments", read_assignments),
        Panel("Doctors with most patients", read_busiest_doctors),
    ]
    form = MappingForm
    list_display = ["id", "patient", "doctor", "role", "is_primary", "state", "started_at", "ended_at", "owner"]
    list_filter = [StateFilter, OwnerFilter, AssignedPatientFilter, AssignedDoctorFilter, DayRangeFilter]
    list_select_related = ["patient", "doctor", "created_by"]
    found_through: ClassVar = {
        "patient": FoundThrough(PATIENT_SEARCH, most=200),
        "doctor": FoundThrough(DOCTOR_SEARCH, most=10, shared=True),
    }
    search_help_text = "Patient or doctor: name, also misspelt; identifier, license number, phone or e-mail."
    autocomplete_fields = ["patient", "doctor"]
    owner_follows = "patient"
    fieldsets = [
        ("Who treats whom", {"fields": ["patient", "doctor", "role", "is_primary"]}),
        ("Reason and time", {"fields": ["reason", "started_at", "notes"]}),
    ]

    actions = [EndAssignments(), ExportRecords(MappingSerializer, []), RestoreAssignments(), DeleteAssignments()]

    @property
    def states(self) -> dict[str, Q]:
        return {**super().states, "ended": Q(ended_at__isnull=False, version__gt=0)}  # by the index `mapping_ended`

    def describe_record(self, record: Mapping) -> str:
        return f"{record.patient} – {record.doctor}"

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fixed = ["patient", "doctor"] if obj else []
        return [*super().get_readonly_fields(request, obj), *fixed]

    def choices(self, field: Any) -> Any:
        return field.related_model.objects.active()


def doctors_who_treat_patients(doctors: Sequence[Doctor]) -> QuerySet[Doctor]:
    """Those of these doctors who have active mappings. The trigger in `triggers` applies the same rule to the API."""
    mappings = Mapping.objects.active().of_active_patients().filter(doctor__in=doctors)
    return Doctor.objects.filter(pk__in=mappings.values("doctor"))


DoctorAdmin.register_obstacle(
    DeletionObstacle(doctors_who_treat_patients, "treats patients; end those assignments first")
)
PatientAdmin.register_inline(AssignmentInline)
