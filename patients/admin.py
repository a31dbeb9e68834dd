"""The admin of patients of every owner, of legal holds and of erasure receipts."""

from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.admin import ReadOnlyAdmin
from audit.admin.reads import ReadsRecordedAdmin
from audit.models import LegalHold
from healthcare.admin.edit_conflicts import ConflictCheckingForm
from healthcare.admin.records import DeletionObstacle, RecordAdmin, StateFilter
from patients.admin_forms import PatientForm
from patients.legal_hold import HoldError, check_holdable, held_among, release_hold, set_hold
from patients.models import ErasureReceipt, Patient


@admin.register(Patient)
class PatientAdmin(ReadsRecordedAdmin, RecordAdmin):
    form = PatientForm
    list_display = ["name", "age", "gender", "identifier", "phone", "created_by", "created_at"]
    list_filter = [StateFilter, "gender", "deceased", "created_at"]
    search_fields = [
        "name", "identifier", "identifiers", "phone", "alternate_phone", "email", "=created_by__username",
    ]  # fmt: skip
    search_help_text = "Name, identifiers, phones, e-mail, or the whole username of the owner."
    fieldsets = [
        ("Person", {"fields": ["name", "gender", ("birth_date", "birth_year", "age"), ("deceased", "deceased_on")]}),
        ("Identifiers", {"fields": ["identifier", "identifiers"]}),
        ("Reaching the patient", {"fields": ["phone", "alternate_phone", "email", "address", "language"]}),
        ("Next of kin and other contacts", {"fields": ["contacts"]}),
        ("Medical history", {"fields": ["medical_history"]}),
    ]
    readonly_fields = ["age"]
    record_fields: ClassVar[Sequence[str]] = [*RecordAdmin.record_fields, "survivor", "legal_hold"]

    @admin.display(description="Merged into")
    def survivor(self, record: Patient) -> int | None:
        return record.merged_into_id  # only the id: the other record is not read, so no read is recorded

    @admin.display(description="Legal hold", boolean=True)
    def legal_hold(self, record: Patient) -> bool:
        return bool(held_among([record]))

    def describe_record(self, record: Patient) -> str:
        parts = [record.name, record.birth_date or record.birth_year, record.identifier]
        return ", ".join(str(part) for part in parts if part)


PatientAdmin.register_obstacle(DeletionObstacle(held_among, "is under a legal hold."))


class LegalHoldForm(ConflictCheckingForm):
    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if "patient_id" in cleaned:
            try:
                check_holdable(cleaned["patient_id"])
            except HoldError as error:
                self.add_error("patient_id", str(error))
        return cleaned


@admin.register(LegalHold)
class LegalHoldAdmin(ReadOnlyAdmin):
    """Who may add a legal hold sets it, and who may change one releases it. It names the patient by the id alone."""

    form = LegalHoldForm
    list_display = ["patient_id", "set_at", "set_username", "set_account", "reason", "released_at", "released_username"]
    list_filter = ["set_at", ("released_at", admin.EmptyFieldListFilter)]
    search_fields = ["=patient_id", "reason", "set_username"]
    actions = ["release"]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_fields(request, obj) if obj else ["patient_id", "reason"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("audit.add_legalhold")

    def has_release_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("audit.change_legalhold")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: LegalHold, form: Any, change: bool) -> None:
        hold = set_hold(obj.patient_id, reason=obj.reason, username=request.user.get_username())
        obj.pk = hold.pk

    @admin.action(description="Release selected legal holds", permissions=["release"])
    def release(self, request: HttpRequest, holds: QuerySet[LegalHold]) -> None:
        released = [
            release_hold(patient_id, username=request.user.get_username())
            for patient_id in holds.active().order_by("patient_id").values_list("patient_id", flat=True)  # type: ignore[attr-defined]
        ]
        for hold in released:
            self.log_change(request, hold, "Released.")
        self.message_user(request, f"{len(released)} legal holds released.", messages.SUCCESS)


@admin.register(ErasureReceipt)
class ErasureReceiptAdmin(ReadOnlyAdmin):
    """Written by the commands `erase_patient`, `erase_doctor` and `erase_user` only, and never deleted."""

    list_display = ["kind", "record_id", "erased_at", "account", "username", "reason"]
    list_filter = ["kind", "erased_at"]
    search_fields = ["=record_id", "account", "username", "reason"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
