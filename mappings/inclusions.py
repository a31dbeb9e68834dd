"""`?include=doctors` of patients: the doctors who treat each patient. `MappingsConfig.ready` registers it."""

from django.db.models import Prefetch, prefetch_related_objects

from healthcare.api.sparse_fieldsets import Inclusion
from healthcare.coverage import covered_by_fast_path
from mappings.models import Mapping
from mappings.serializers import PatientDoctorSerializer
from patients.models import Patient


@covered_by_fast_path  # which reads the same by `links`
def fetch_doctors(patients: list[Patient]) -> None:
    """Set `treated_by` on each patient: the doctors of the active mappings, the latest first. One SQL statement."""
    active = Mapping.objects.active().select_related("doctor").order_by("-pk")
    prefetch_related_objects(patients, Prefetch("mappings", active, to_attr="active_mappings"))
    for patient in patients:
        for mapping in patient.active_mappings:  # type: ignore[attr-defined]
            mapping.doctor.mapping = mapping.pk
        patient.treated_by = [mapping.doctor for mapping in patient.active_mappings]  # type: ignore[attr-defined]


DOCTORS_INCLUSION = Inclusion(
    fetch=fetch_doctors,
    field=lambda: PatientDoctorSerializer(source="treated_by", many=True, read_only=True),
    links=lambda: Mapping.objects.active(),
    parent="patient",
    related="doctor",
    serializer=PatientDoctorSerializer,
)
