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

    def deletion_obstacles(self, records: Sequence[Record]) -> list[str]:
        """A doctor with active assignments cannot be deleted."""
        active = Q(mappings__ended_at=None, mappings__patient__deleted_at=None)  # the same condition as in the API
        doctors = Doctor.objects.filter(pk__in=[record.pk for record in records])
        treating = doctors.annotate(assignments=Count("mappings", filter=active)).filter(assignments__gt=0)
        sentences = [f"{self.describe(doctor)} treats patients; end those assignments first." for doctor in treating]
        return [*super().deletion_obstacles(records), *sentences]
