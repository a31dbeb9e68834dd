"""The access log and the seals in the admin. Nobody changes either, superusers included: there are no forms, and every
POST but that of the button "Verify the seals" is refused."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import F, Func, IntegerField
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from audit.admin.accesses import POSITION, patient_history_route
from audit.admin.home import access_figures, read_last_seal
from audit.admin.log_filters import (
    ActorFilter,
    BasisFilter,
    LoggedDayFilter,
    LoggedPatientFilter,
    OutcomeFilter,
    TableFilter,
)
from audit.admin.seal_verification import last_verification, verify_in_request
from audit.admin.wording import Users, access_text, outcome_text, table_texts
from audit.models import AccessLog, Basis, Seal
from audit.seals import CODE_LENGTH
from audit.verification import verified_until
from healthcare.admin.home import Panel
from healthcare.admin.lists import BoundedChangeList, RowsInParts
from healthcare.admin.read_only import ReadOnlyAdmin
from healthcare.admin.value_texts import local_time
from healthcare.api.cursors import Cursor

MOST_SCANNED = 500_000  # rows that a filter without an index reads
PATIENTS_LISTED = 10  # of one row on the list


class LogAdmin(ReadOnlyAdmin):
    """Rows that can only be viewed. Every POST is refused (403), those of superusers included."""

    task = "Audit"
    actions = ()
    ordering = ("-id",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """By the permission to view alone: Django's method also lets users view what they may change."""
        return request.user.has_perm(f"{self.opts.app_label}.view_{self.opts.model_name}")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        refuse_to_change(request)
        return super().changelist_view(request, extra_context)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        refuse_to_change(request)
        return super().changeform_view(request, *args, **kwargs)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        refuse_to_change(request)
        return super().history_view(request, object_id, extra_context)


def refuse_to_change(request: HttpRequest) -> None:
    if request.method not in {"GET", "HEAD"}:
        raise PermissionDenied


class AccessRows(RowsInParts):
    """The rows of the log. Those of one patient are found by the patients' index: see `POSITION`."""

    def __init__(self, rows: Any, *, of_patient: bool, filtered: bool) -> None:
        super().__init__(rows.annotate(position=POSITION) if of_patient else rows, ["id"])
        self.of_patient, self.filtered = of_patient, filtered

    def fetch(self, cursor: Cursor | None, limit: int) -> list[Any]:
        if not self.of_patient:
            return super().fetch(cursor, limit)
        back = cursor is not None and cursor.back
        rows = self.queryset.order_by("position" if back else "-position")
        if cursor:
            rows = rows.filter(**{f"position__{'gt' if back else 'lt'}": cursor.values[0]})
        return list(rows[:limit])

    def counted(self) -> Any:
        """Not of filtered rows, which no index counts."""
        return None if self.filtered else super().counted()


class AccessLogList(BoundedChangeList):
    """The log, newest first. A user, an outcome or a basis is looked for among the accesses to one patient, or among
    the last MOST_SCANNED rows, of the day if one is chosen."""

    note = ""

    @property
    def count_text(self) -> str:
        return f"{self.count} requests" if self.count else super().count_text

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        rows = super().get_queryset(request, exclude_parameters)
        patient, day = self.filter_of(LoggedPatientFilter).patient_id, self.filter_of(LoggedDayFilter)
        chosen = self.filter_of(OutcomeFilter).value or self.filter_of(BasisFilter).value
        scans = bool(chosen) or self.filter_of(ActorFilter).actor is not None
        self.of_patient = patient is not None
        self.filtered = self.of_patient or scans or bool(day.ids)
        if scans and not self.of_patient:
            last = AccessLog.objects.order_by("-id").values_list("id", flat=True).first() or 0
            end = min(day.ids[1], last + 1) if day.ids else last + 1
            rows = rows.filter(id__gte=end - MOST_SCANNED)
            if end - MOST_SCANNED > (day.ids[0] if day.ids else 0):
                part = "the last of this day" if day.ids else "the last ones; choose a day for earlier ones"
                self.note = f"Among {MOST_SCANNED:,} requests, {part}"
        return rows

    def in_parts(self) -> AccessRows:
        return AccessRows(self.queryset, of_patient=self.of_patient, filtered=self.filtered)

    def get_results(self, request: HttpRequest) -> None:
        self.title = "Access log"
        super().get_results(request)
        describe_accesses(request, self.model_admin.admin_site, self.result_list)


def describe_accesses(request: HttpRequest, site: Any, rows: list[Any]) -> None:
    """Give these rows what their columns need: the names of their users, and the page of a patient."""
    users, route = Users(row.actor for row in rows), patient_history_route(site, request)
    for row in rows:
        row.actor_name, row.patient_route = users.name(row.actor), route


@admin.register(AccessLog)
class AccessLogAdmin(LogAdmin):
    """Names patients by their ids alone. Looking at the log is in the log: a list of one patient's accesses, and a
    single row, as a read about these patients; any other list as one about none, since it shows no patient's data."""

    home_panels = [Panel("Reads today", access_figures)]
    list_display = ["moment", "who", "what", "about", "basis", "result"]
    list_filter = [LoggedPatientFilter, ActorFilter, OutcomeFilter, BasisFilter, LoggedDayFilter]
    fields = ["moment", "who", "what", "about_all", "basis", "result", "request_id", "action"]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return AccessLogList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        response = super().changelist_view(request, extra_context)
        changelist = (getattr(response, "context_data", None) or {}).get("cl")
        if changelist is not None:
            patient_id = changelist.filter_of(LoggedPatientFilter).patient_id
            self.record_look(request, "changelist", [patient_id] if patient_id else [])
        return response

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        row = super().get_object(request, object_id, from_field)
        if row is not None:
            describe_accesses(request, self.admin_site, [row])
            if self.has_view_permission(request):
                self.record_look(request, "view", row.patient_ids)
        return row

    def record_look(self, request: HttpRequest, action: str, patient_ids: list[int]) -> None:
        AccessLog.objects.record(
            request.user.pk or 0, f"admin.accesslog.{action}", patient_ids, basis=Basis.STAFF,
            request_id=getattr(request, "request_id", ""), outcome=200, pure_read=True,
        )  # fmt: skip

    @admin.display(description="Time")
    def moment(self, row: AccessLog) -> str:
        return local_time(row.at)

    @admin.display(description="Who")
    def who(self, row: Any) -> str:
        return str(row.actor_name)

    @admin.display(description="What")
    def what(self, row: AccessLog) -> str:
        return access_text(row.action)

    @admin.display(description="Outcome")
    def result(self, row: AccessLog) -> str:
        return outcome_text(row.outcome)

    @admin.display(description="Patients")
    def about(self, row: Any) -> SafeString:
        more = len(row.patient_ids) - PATIENTS_LISTED
        rest = f" and {more} more" if more > 0 else ""
        return format_html("{}{}", link_patients(row.patient_route, row.patient_ids[:PATIENTS_LISTED]), rest)

    @admin.display(description="Patients")
    def about_all(self, row: Any) -> str:
        return link_patients(row.patient_route, row.patient_ids)


def link_patients(route: str, ids: list[int]) -> str:
    if not ids:
        return ""
    if not route:
        return format_html_join(", ", "{}", [(key,) for key in ids])
    return format_html_join(", ", '<a href="{}">{}</a>', [(reverse(route, args=[key]), key) for key in ids])


class SealList(BoundedChangeList):
    def get_results(self, request: HttpRequest) -> None:
        self.title = "Seals"
        super().get_results(request)
        verified = verified_until()
        for seal in self.result_list:
            seal.is_verified = seal.pk <= verified


@admin.register(Seal)
class SealAdmin(LogAdmin):
    home_panels = [Panel("Last seal", read_last_seal)]
    list_display = ["id", "rows_of", "moment", "row_count", "last_id", "state"]
    list_filter = [TableFilter]
    fields = ["id", "rows_of", "moment", "row_count", "last_id", "latest_row", "code"]
    change_list_template = "admin/seal_list.html"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return SealList

    def get_queryset(self, request: HttpRequest) -> Any:
        """Without the codes and ids of the sealed rows, which are long."""
        size = Func(F("codes"), function="octet_length", output_field=IntegerField())
        return super().get_queryset(request).defer("codes", "row_ids", "columns").annotate(row_count=size / CODE_LENGTH)

    def get_urls(self) -> list[Any]:
        verify = path("verify/", self.admin_site.admin_view(self.verify_view), name="audit_seal_verify")
        return [verify, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        last = last_verification() if self.has_view_permission(request) else None
        verification = last and f"{local_time(last.action_time)}, by {last.user}: {last.change_message}"
        return super().changelist_view(request, {**(extra_context or {}), "last_verification": verification})

    def verify_view(self, request: HttpRequest) -> HttpResponseBase:
        """The button alone (GET), or verify the seals (POST) and show the result."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": "Verification of the seals",
            "opts": self.opts,
            "outcome": verify_in_request(request.user) if request.method == "POST" else None,
        }
        return TemplateResponse(request, "admin/seal_verification.html", context)

    @admin.display(description="Rows of")
    def rows_of(self, seal: Seal) -> str:
        return table_texts().get(seal.table, seal.table)

    @admin.display(description="Sealed at")
    def moment(self, seal: Seal) -> str:
        return local_time(seal.at)

    @admin.display(description="Latest row")
    def latest_row(self, seal: Seal) -> str:
        return local_time(seal.latest)

    @admin.display(description="Rows")
    def row_count(self, seal: Any) -> int:
        return int(seal.row_count)

    @admin.display(description="State")
    def state(self, seal: Any) -> str:
        return "Verified" if seal.is_verified else "Not verified yet"
