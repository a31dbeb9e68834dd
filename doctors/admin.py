"""The admin of doctors."""

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.utils import timezone

from doctors.models import DOCTOR_SEARCH, MAXIMUM_EXPERIENCE, Doctor
from doctors.serializers import DoctorSerializer
from healthcare.admin.edit_conflicts import ConflictCheckingForm
from healthcare.admin.export import ExportRecords
from healthcare.admin.list_filters import DayRangeFilter
from healthcare.admin.lists import BoundedChangeList, RowsInParts
from healthcare.admin.record_lists import ALL, StateFilter
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
    search_fields = ["name"]  # Django asks for some where others choose a doctor
    search_index = DOCTOR_SEARCH
    search_help_text = (
        "Name, also misspelt; license number, phone or e-mail; or the beginning of the specialization or the hospital."
    )
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

    def list_parts(self, changelist: BoundedChangeList) -> Sequence[Q]:
        """Doctors by the time of creation: each state has an index."""
        all_states = changelist.filter_of(StateFilter).value == ALL
        return [*self.states.values()] if all_states and changelist.filter_of(DayRangeFilter).is_active else ()

    def search_ways(self, changelist: BoundedChangeList, text: str) -> Sequence[Callable[[], Any]]:
        """If nothing matches, also the doctors whose specialization or hospital begins with the text, in any case."""
        speciality, hospital = Q(specialization__istartswith=text), Q(hospital__istartswith=text)
        beginnings = [speciality, hospital & ~speciality]
        first, *others = super().search_ways(changelist, text)
        return [first, lambda: RowsInParts(changelist.queryset, ["id"], beginnings), *others]
