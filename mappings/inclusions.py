"""`GET /api/patients/?include=doctors`: who treats each patient. Here, because patients do not know of assignments."""

from django.db.models import Prefetch, prefetch_related_objects

from healthcare.api.sparse_fieldsets import Inclusion
from mappings.models import Mapping
from mappings.serializers import PatientDoctorSerializer
from patients.models import Patient


def fetch_doctors(patients: list[Patient]) -> None:
    """Reads the active assignments of these patients with their doctors, the latest first, in one statement."""
    active = Mapping.objects.active().select_related("doctor").order_by("-pk")
    prefetch_related_objects(patients, Prefetch("mappings", active, to_attr="active_mappings"))
    for patient in patients:
        for mapping in patient.active_mappings:  # type: ignore[attr-defined]
            mapping.doctor.mapping = mapping.pk
        patient.treated_by = [mapping.doctor for mapping in patient.active_mappings]  # type: ignore[attr-defined]


DOCTORS = Inclusion(
    fetch=fetch_doctors,
    field=lambda: PatientDoctorSerializer(source="treated_by", many=True, read_only=True),
)
