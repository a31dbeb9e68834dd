"""The admin of patients of every owner, and of erasure receipts."""

import datetime
from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest

from accounts.admin import ReadOnlyAdmin
from audit.admin import ReadsRecordedAdmin
from healthcare.admin import RecordAdmin, StateFilter
from healthcare.edit_conflicts import ConflictCheckingForm
from patients.birth import Birth, resolve_birth_year, validate_birth_date, validate_birth_year
from patients.models import ErasureReceipt, Patient


class PatientForm(ConflictCheckingForm):
    """The year of birth follows the date of birth. A year that is changed too has to agree with it."""

    def clean_birth_date(self) -> datetime.date | None:
        date: datetime.date | None = self.cleaned_data["birth_date"]
        validate_birth_date(date)
        return date

    def clean_birth_year(self) -> int | None:
        year: int | None = self.cleaned_data["birth_year"]
        validate_birth_year(year)
        return year

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if {"birth_date", "birth_year"} <= cleaned.keys():
            date, year = cleaned["birth_date"], cleaned["birth_year"]
            follows = date is not None and "birth_year" not in self.changed_data
            stated = {"birth_date": date} if follows else {"birth_date": date, "birth_year": year}
            cleaned["birth_year"] = resolve_birth_year(stated, Birth)  # the form states both: nothing stored decides
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
        return record.merged_into_id  # only the id: the other record is not read, so no read is recorded

    def describe_record(self, record: Patient) -> str:
        parts = [record.name, record.birth_date or record.birth_year, record.identifier]
        return ", ".join(str(part) for part in parts if part)


@admin.register(ErasureReceipt)
class ErasureReceiptAdmin(ReadOnlyAdmin):
    """Written by the commands `erase_patient`, `erase_doctor` and `erase_user` only, and never deleted."""

    list_display = ["kind", "record_id", "erased_at", "account", "username", "reason"]
    list_filter = ["kind", "erased_at"]
    search_fields = ["=record_id", "account", "username", "reason"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
