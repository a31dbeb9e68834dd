"""Patients in the admin: those of every owner."""

import datetime
from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils import timezone

from accounts.admin import ReadOnlyAdmin
from audit.admin import ReadsRecordedAdmin
from healthcare.admin import RecordAdmin, StateFilter
from healthcare.edit_conflicts import ConflictCheckingForm
from patients.models import OLDEST, ErasureReceipt, Patient


class PatientForm(ConflictCheckingForm):
    """The year of birth follows the date, unless it is changed too: then they have to agree."""

    def clean_birth_date(self) -> datetime.date | None:
        day: datetime.date | None = self.cleaned_data["birth_date"]
        today = timezone.localdate()
        if day and not datetime.date(today.year - OLDEST, 1, 1) <= day <= today:
            raise ValidationError(f"Enter a day of the last {OLDEST} years.")
        return day

    def clean_birth_year(self) -> int | None:
        year: int | None = self.cleaned_data["birth_year"]
        today = timezone.localdate()
        if year is not None and not today.year - OLDEST <= year <= today.year:
            raise ValidationError(f"Enter a year of the last {OLDEST} years.")
        return year

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if cleaned.get("birth_date") and "birth_year" in cleaned and "birth_year" not in self.changed_data:
            cleaned["birth_year"] = cleaned["birth_date"].year
        return cleaned


@admin.register(Patient)
class PatientAdmin(ReadsRecordedAdmin, RecordAdmin):
    form = PatientForm
    list_display = ["name", "age", "gender", "identifier", "phone", "created_by", "created_at"]
    list_filter = [StateFilter, "gender", "deceased", "created_at"]
    search_fields = ["name", "identifier", "phone", "email", "=created_by__username"]
    search_help_text = "Name, identifier, phone, e-mail, or the whole username of the owner."
    fields = [
        "name", "gender", ("birth_date", "birth_year", "age"), "deceased", "identifier", "phone", "email", "address",
    ]  # fmt: skip
    readonly_fields = ["age"]
    record_fields: ClassVar[Sequence[str]] = [*RecordAdmin.record_fields, "survivor"]

    @admin.display(description="Merged into")
    def survivor(self, record: Patient) -> int | None:
        return record.merged_into_id  # the id alone: of the other record nothing is read here

    def describe(self, record: Patient) -> str:
        known = [record.name, record.birth_date or record.birth_year, record.identifier]
        return ", ".join(str(part) for part in known if part)


@admin.register(ErasureReceipt)
class ErasureReceiptAdmin(ReadOnlyAdmin):
    """Made by `manage.py erase_patient` alone, and kept."""

    list_display = ["patient_id", "erased_at", "account", "username", "reason"]
    list_filter = ["erased_at"]
    search_fields = ["=patient_id", "account", "username", "reason"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
