"""The admin of doctors."""

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.utils import timezone

from doctors.models import MAXIMUM_EXPERIENCE, Doctor
from doctors.serializers import DoctorSerializer
from healthcare.admin.edit_conflicts import ConflictCheckingForm
from healthcare.admin.export import ExportRecords
from healthcare.admin.records import RecordAdmin


class DoctorForm(ConflictCheckingForm):
    class Meta:
        labels = {"experience_since": "Practises since", "email": "E-mail"}
        help_texts = {
            "name": "Write the whole name with its title. Everybody can read it in the public directory.",
            "specialization": "Such as cardiology.",
            "experience_since": "The year in which the doctor began to practise.",
            "license_number": "The number in the register of doctors. No two doctors share one.",
            "hospital": "Where patients find the doctor.",
            "phone": "A phone of the practice: it is public.",
            "email": "An e-mail of the practice: it is public.",
        }

    def clean_experience_since(self) -> int | None:
        year: int | None = self.cleaned_data["experience_since"]
        this_year = timezone.localdate().year
        if year is not None and not this_year - MAXIMUM_EXPERIENCE <= year <= this_year:
            raise ValidationError(f"Enter a year of the last {MAXIMUM_EXPERIENCE} years.")
        return year


@admin.register(Doctor)
class DoctorAdmin(RecordAdmin):
    form = DoctorForm
    actions = [ExportRecords(DoctorSerializer, ["deleted_at"]), *RecordAdmin.actions]
    list_display = ["name", "state", "specialization", "hospital", "license_number", "phone", "owner", "created_at"]
    search_fields = ["name", "specialization", "hospital", "license_number", "phone", "email"]
    search_help_text = "Name, specialization, hospital, license number, phone or e-mail."
    fieldsets = [
        ("Person", {"fields": ["name", "specialization", ("experience_since", "experience_years")]}),
        ("Registration and work", {"fields": ["license_number", "hospital"]}),
        ("Reaching the doctor", {"fields": ["phone", "email"]}),
    ]
    readonly_fields = ["experience_years"]

    @admin.display(description="Experience in years")
    def experience_years(self, record: Doctor) -> int | str:
        return "-" if record.experience_years is None else record.experience_years

    def describe_record(self, record: Doctor) -> str:
        return ", ".join(part for part in (record.name, record.specialization, record.hospital) if part)
