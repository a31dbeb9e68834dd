"""`GET /api/patients/?include=doctors`: who treats each patient. Here, because patients do not know of assignments."""

from typing import Any

from django.db.models import Prefetch, prefetch_related_objects

from healthcare.api.shaping import Inclusion
from mappings.models import Mapping
from mappings.serializers import PatientDoctorSerializer


def fetch_doctors(patients: list[Any]) -> None:
    """Reads the active assignments of these patients with their doctors, the latest first, in one statement."""
    active = Mapping.objects.active().select_related("doctor").order_by("-pk")
    prefetch_related_objects(patients, Prefetch("mappings", active, to_attr="active_mappings"))
    for patient in patients:
        patient.active_doctors = [mapping.doctor for mapping in patient.active_mappings]
        for mapping in patient.active_mappings:
            mapping.doctor.mapping = mapping.pk


DOCTORS = Inclusion(
    fetch=fetch_doctors,
    field=lambda: PatientDoctorSerializer(source="active_doctors", many=True, read_only=True),
)
