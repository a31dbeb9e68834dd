"""The admin of patients of every owner, of legal holds and of erasure receipts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from accounts.admin import UserAdmin
from accounts.delegations.audience import AudienceMember, audience_of
from audit.admin.reads import ReadsRecordedAdmin
from audit.models import LegalHold
from healthcare.admin.edit_conflicts import ConflictCheckingForm
from healthcare.admin.export import ExportRecords
from healthcare.admin.home import Panel
from healthcare.admin.list_filters import ChoiceFilter, DayRangeFilter, FieldChoiceFilter, OwnerFilter
from healthcare.admin.lists import BoundedChangeList
from healthcare.admin.object_lists import objects_in_words
from healthcare.admin.read_only import ReadOnlyAdmin
from healthcare.admin.record_actions import DeleteRecords
from healthcare.admin.record_lists import StateFilter
from healthcare.admin.records import DeletionObstacle, RecordAdmin
from healthcare.admin.value_texts import local_time
from patients.admin_actions import ReleaseHolds, RestorePatients
from patients.admin_forms import PatientForm
from patients.admin_hand_over import HandOverPatients, HandOverUsers
from patients.admin_home import patient_figures, read_new_patients
from patients.admin_merge import MergePatients, UndoMerges
from patients.admin_search import MOST_SEARCHED, MergedHits
from patients.legal_hold import HoldError, check_holdable, held_among, set_hold
from patients.merges import merge_behind_version
from patients.models import PATIENT_SEARCH, ErasureReceipt, Gender, Patient
from patients.serializers import PatientSerializer

MOST_AUDIENCE_MEMBERS = 20  # whom the page of a patient names as its audience
UserAdmin.actions.append(HandOverUsers())  # accounts know nothing of patients


class GenderListFilter(FieldChoiceFilter):
    title = "gender"
    parameters: ClassVar = ("gender",)


@admin.register(Patient)
class PatientAdmin(ReadsRecordedAdmin, RecordAdmin):
    home_panels = [Panel("Patients", patient_figures), Panel("New this week", read_new_patients)]
    home_search = True
    form = PatientForm
    list_display = ["name", "state", "age", "gender", "identifier", "phone", "owner", "created_at"]
    list_filter = [StateFilter, OwnerFilter, GenderListFilter, DayRangeFilter]
    actions = [
        MergePatients(),
        UndoMerges(),
        ExportRecords(PatientSerializer, ["deleted_at", "merged_into"]),
        HandOverPatients(),
        RestorePatients(),
        DeleteRecords(),
    ]
    search_fields = ["name"]  # Django asks for some where others choose a patient
    search_index = PATIENT_SEARCH
    search_help_text = "Name, also misspelt; identifier, phone or e-mail; or the whole username of the owner."
    fieldsets = [
        ("Person", {"fields": ["name", "gender", ("birth_date", "birth_year", "age"), ("deceased", "deceased_on")]}),
        ("Identifiers", {"fields": ["identifier", "identifiers"]}),
        ("Reaching the patient", {"fields": ["phone", "alternate_phone", "email", "address", "language"]}),
        ("Next of kin and other contacts", {"fields": ["contacts"]}),
        ("Medical history", {"fields": ["medical_history"]}),
    ]
    readonly_fields = ["age", "identifiers_listed", "contacts_listed"]
    record_fields: ClassVar[Sequence[str]] = [*RecordAdmin.record_fields, "audience", "survivor", "legal_hold"]

    @property
    def states(self) -> Mapping[str, Q]:
        hidden = Q(deleted_at__isnull=False)
        return {
            "active": Q(deleted_at=None),
            "deleted": hidden & Q(merged_into=None, version__gt=0),  # by the index `patient_deleted`
            "merged": Q(merged_into__isnull=False),
        }

    def state_of(self, record: Patient) -> str:
        return "merged" if record.merged_into_id else super().state_of(record)

    @admin.display(description="State")
    def state(self, record: Patient) -> SafeString:
        state = super().state(record)
        if not record.merged_into_id:
            return state
        survivor = reverse("admin:patients_patient_change", args=[record.merged_into_id])
        return format_html('{} into <a href="{}">patient {}</a>', state, survivor, record.merged_into_id)

    def list_columns(self, changelist: BoundedChangeList) -> list[str]:
        """One index serves the gender and the time of creation, each alone too."""
        owner, gender = changelist.filter_of(OwnerFilter), changelist.filter_of(GenderListFilter)
        return ["created_at", "id"] if gender.value and owner.owner_id is None else super().list_columns(changelist)

    def list_parts(self, changelist: BoundedChangeList) -> Sequence[Q]:
        owner, gender = changelist.filter_of(OwnerFilter), changelist.filter_of(GenderListFilter)
        if owner.owner_id is None and not gender.value and changelist.filter_of(DayRangeFilter).is_active:
            return [Q(gender=value) for value in Gender.values]
        return super().list_parts(changelist)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Lists of objects are rows in a form, and lines where they can only be viewed."""
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fieldsets
        lines = {"identifiers": "identifiers_listed", "contacts": "contacts_listed"}
        return [
            (
                title,
                options | {"fields": [name if isinstance(name, tuple) else lines.get(name, name) for name in names]},
            )
            for title, options in fieldsets
            for names in [options["fields"]]
        ]

    @admin.display(description="Other numbers")
    def identifiers_listed(self, record: Patient) -> str:
        return objects_in_words(record.identifiers) or "-"

    @admin.display(description="Contacts")
    def contacts_listed(self, record: Patient) -> str:
        return objects_in_words(record.contacts) or "-"

    @admin.display(description="Age")
    def age(self, record: Patient) -> int | str:
        return "-" if record.age is None else record.age

    def search_ways(self, changelist: BoundedChangeList, text: str) -> Sequence[Callable[[], Any]]:
        if changelist.filter_of(StateFilter).value != "merged":
            return super().search_ways(changelist, text)
        changelist.note = f"Searched among the last {MOST_SEARCHED:,} merged patients."
        return [lambda: MergedHits(changelist.queryset, text, changelist.filter_of(OwnerFilter).owner_id)]

    @admin.display(description="Who sees it in the API")
    def audience(self, record: Patient) -> SafeString:
        members = audience_of(record.created_by_id)
        lines = [describe_member(member) for member in members[:MOST_AUDIENCE_MEMBERS]]
        if len(members) > MOST_AUDIENCE_MEMBERS:
            lines.append(f"and {len(members) - MOST_AUDIENCE_MEMBERS} more: see Delegations")
        return format_html_join(mark_safe("<br>"), "{}", ((line,) for line in lines))

    @admin.display(description="Merged into")
    def survivor(self, record: Patient) -> int | str:
        return record.merged_into_id or "-"  # only the id: the other record is not read, so no read is recorded

    @admin.display(description="Legal hold", boolean=True)
    def legal_hold(self, record: Patient) -> bool:
        return bool(held_among([record]))

    def why_not_restorable(self, record: Patient, version: int) -> str:
        merge = merge_behind_version(record.pk, version)
        if merge is None:
            return ""
        return (
            f"This version may hold data of patient {merge.duplicate_id}, which was merged into this one then. "
            "Restore another version, or write what you need into the form."
        )

    def describe_record(self, record: Patient) -> str:
        parts = [record.name, record.birth_date or record.birth_year, record.identifier]
        return ", ".join(str(part) for part in parts if part)


def describe_member(member: AudienceMember) -> str:
    """ "sunrise, owner", "asha, delegate: write, until 31 Dec 2026, 18:00:00 IST"."""
    role = f": {member.role}" if member.role else ""
    until = f", until {local_time(member.expires_at)}" if member.expires_at else ""
    return f"{member.username}, {member.basis}{role}{until}"


PatientAdmin.register_obstacle(DeletionObstacle(held_among, "is under a legal hold"))


class LegalHoldForm(ConflictCheckingForm):
    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if "patient_id" in cleaned:
            try:
                check_holdable(cleaned["patient_id"])
            except HoldError as error:
                self.add_error("patient_id", str(error))
        return cleaned


class HoldStateFilter(ChoiceFilter):
    """Legal holds and erasure receipts are few: each is entered by a person. So no index serves their filters."""

    title = "state"
    parameters: ClassVar = ("state",)

    def options(self) -> dict[str, str]:
        return {"active": "Active", "released": "Released"}

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(released_at__isnull=self.value == "active") if self.value else queryset


@admin.register(LegalHold)
class LegalHoldAdmin(ReadOnlyAdmin):
    """Adding a hold sets it, and the permission to change one lets a user release it. Patients appear by id alone."""

    task = "Audit"
    form = LegalHoldForm
    list_display = ["patient_id", "set_at", "set_username", "set_account", "reason", "released_at", "released_username"]
    list_filter = [HoldStateFilter]
    search_fields = ["=patient_id", "reason", "set_username"]
    actions = [ReleaseHolds()]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_fields(request, obj) if obj else ["patient_id", "reason"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("audit.add_legalhold")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: LegalHold, form: Any, change: bool) -> None:
        hold = set_hold(obj.patient_id, reason=obj.reason, username=request.user.get_username())
        obj.pk = hold.pk


class ReceiptKindFilter(FieldChoiceFilter):
    title = "kind"
    parameters: ClassVar = ("kind",)


@admin.register(ErasureReceipt)
class ErasureReceiptAdmin(ReadOnlyAdmin):
    """Written by the commands `erase_patient`, `erase_doctor` and `erase_user` only, and never deleted."""

    task = "Audit"
    list_display = ["kind", "record_id", "erased_at", "account", "username", "reason"]
    list_filter = [ReceiptKindFilter]
    search_fields = ["=record_id", "account", "username", "reason"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
