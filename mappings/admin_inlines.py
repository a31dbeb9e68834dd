"""The doctors of a patient on the patient's form: the latest assignments, active and past, and new ones."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from healthcare.admin.inlines import MOST_LISTED, ListedInline, ListedRow, Listing, NewRecords
from healthcare.admin.value_texts import local_time
from mappings.admin_forms import ALREADY_ASSIGNED, HAS_PRIMARY, NewAssignmentForm
from mappings.models import Mapping

LIST = "admin:mappings_mapping_changelist"


class NewAssignments(NewRecords):
    def clean(self) -> None:
        """Refuse the same doctor, or a primary doctor, twice in one request."""
        super().clean()
        doctors: set[Any] = set()
        has_primary = False
        for form in self.forms:
            cleaned = getattr(form, "cleaned_data", {})
            doctor, is_primary = cleaned.get("doctor"), cleaned.get("is_primary", False)
            if doctor and doctor in doctors:
                form.add_error("doctor", ALREADY_ASSIGNED)
            if is_primary and has_primary:
                form.add_error("is_primary", HAS_PRIMARY)
            doctors.add(doctor)
            has_primary = has_primary or is_primary


class AssignmentInline(ListedInline):
    model = Mapping
    form = NewAssignmentForm
    formset = NewAssignments
    verbose_name, verbose_name_plural = "assignment", "doctors"
    add_text = "Assign a doctor"
    autocomplete_fields = ["doctor"]
    fields = ["doctor", "role", "is_primary", "reason", "started_at"]

    def choices(self, field: Any) -> Any:
        return field.related_model.objects.active()

    def list_rows(self, request: HttpRequest, parent: Any) -> Listing:
        latest = Mapping.objects.filter(patient=parent).select_related("doctor").order_by("-id")[: MOST_LISTED + 1]
        rows = list(latest)
        return Listing(
            columns=["Doctor", "Role", "Primary", "State", "Started", "Ended"],
            rows=[self.listed(request, row) for row in rows[:MOST_LISTED]],
            has_more=len(rows) > MOST_LISTED,
            all_url=f"{reverse(LIST)}?patient={parent.pk}&state=all",
        )

    def listed(self, request: HttpRequest, mapping: Mapping) -> ListedRow:
        page: Any = self.admin_site.get_model_admin(Mapping)
        doctors: Any = self.admin_site.get_model_admin(type(mapping.doctor))
        may_change = page.has_change_permission(request, mapping)
        links = [("Change" if may_change else "View", reverse("admin:mappings_mapping_change", args=[mapping.pk]))]
        if mapping.ended_at is None and request.user.has_perm("mappings.end_mapping"):
            links.append(("End", f"{reverse('admin:mappings_mapping_end')}?id={mapping.pk}"))
        cells = [
            doctors.describe_record(mapping.doctor),
            mapping.role,
            "Yes" if mapping.is_primary else "No",
            page.state(mapping),
            local_time(mapping.started_at),
            local_time(mapping.ended_at) if mapping.ended_at else "",
        ]
        return ListedRow(cells, links)
