"""The admin of doctors."""

from django.contrib import admin

from doctors.models import Doctor
from healthcare.admin import RecordAdmin, StateFilter


@admin.register(Doctor)
class DoctorAdmin(RecordAdmin):
    list_display = ["name", "specialization", "hospital", "license_number", "phone", "created_by", "created_at"]
    list_filter = [StateFilter, "created_at"]
    search_fields = ["name", "specialization", "hospital", "license_number", "phone", "email"]
    search_help_text = "Name, specialization, hospital, license number, phone or e-mail."
    fields = ["name", "specialization", "license_number", "experience_years", "hospital", "phone", "email"]

    def describe_record(self, record: Doctor) -> str:
        return ", ".join(part for part in (record.name, record.specialization, record.hospital) if part)
