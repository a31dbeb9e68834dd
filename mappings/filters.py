"""The filters of the list of mappings, and a filter for the list of patients."""

from typing import Any

from django.db.models import QuerySet

from doctors.models import Doctor
from healthcare.api.filters import IdFilter, ListFilterSet, TextFilter
from patients.models import Patient


class MappingFilter(ListFilterSet):
    patient = IdFilter(scope=lambda owner: Patient.objects.owned_by(owner).active(), label="A patient of yours.")
    doctor = IdFilter(scope=lambda owner: Doctor.objects.active(), label="A doctor.")
    role = TextFilter(label="The whole role, in any case.")


class TreatingDoctorFilter(IdFilter):
    """Patients to whom a doctor is assigned now. Registered for the list of patients in `MappingsConfig.ready`."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("label", "Treated by this doctor now.")
        super().__init__(scope=lambda owner: Doctor.objects.active(), **kwargs)

    def filter(self, qs: QuerySet, value: Doctor | None) -> QuerySet:
        # One row for each patient: there is one active assignment of a doctor to a patient at most.
        return qs if value is None else qs.filter(mappings__doctor=value, mappings__ended_at__isnull=True)
