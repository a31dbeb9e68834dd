"""Doctors in the admin."""

from collections.abc import Sequence

from django.contrib import admin
from django.db.models import Count, Q

from doctors.models import Doctor
from healthcare.admin import RecordAdmin, StateFilter
from healthcare.ownership import Record


@admin.register(Doctor)
class DoctorAdmin(RecordAdmin):
    list_display = ["name", "specialization", "hospital", "license_number", "phone", "created_by", "created_at"]
    list_filter = [StateFilter, "created_at"]
    search_fields = ["name", "specialization", "hospital", "license_number", "phone", "email"]
    search_help_text = "Name, specialization, hospital, license number, phone or e-mail."
    fields = ["name", "specialization", "license_number", "experience_years", "hospital", "phone", "email"]

    def describe(self, record: Doctor) -> str:
        return ", ".join(part for part in (record.name, record.specialization, record.hospital) if part)

    def obstacles(self, records: Sequence[Record]) -> list[str]:
        """Whoever treats somebody stays."""
        current = Q(mappings__ended_at=None, mappings__patient__deleted_at=None)  # as the API counts them
        treated = Count("mappings", filter=current)
        doctors = Doctor.objects.filter(pk__in=[record.pk for record in records]).annotate(treated=treated)
        treating = doctors.filter(treated__gt=0)
        said = [f"{self.describe(doctor)} treats patients; end those assignments first." for doctor in treating]
        return [*super().obstacles(records), *said]
