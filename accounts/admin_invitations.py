"""The admin of invitations to register."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.template.response import TemplateResponse

from accounts.admin_delegations import signed_in
from accounts.delegations.rules import is_valid_expiry
from accounts.invitations.codes import write_invitation
from accounts.invitations.models import Invitation
from healthcare.admin.edit_conflicts import ConflictCheckingAdmin, ConflictCheckingForm
from healthcare.admin.list_filters import ChoiceFilter


class InvitationForm(ConflictCheckingForm):
    def clean_expires_at(self) -> Any:
        expires_at = self.cleaned_data["expires_at"]
        if not is_valid_expiry(expires_at):
            raise forms.ValidationError("Choose a time in the future, before the year 9000, or none.")
        return expires_at


class InvitationStateFilter(ChoiceFilter):
    """Invitations are few: each is made by a person, and `tidy` removes those that are finished. So no index serves
    this filter."""

    title = "state"
    parameters: ClassVar = ("state",)
    default = "usable"

    def options(self) -> dict[str, str]:
        return {"usable": "Usable", "used": "Used", "expired": "Expired", "all": "All"}

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        rows = {"usable": queryset.usable, "used": queryset.used, "expired": queryset.expired, "all": queryset.all}
        return rows[self.value]()


@admin.register(Invitation)
class InvitationAdmin(ConflictCheckingAdmin):
    """An invitation is added and withdrawn, never changed. Its text is shown in the answer to the form that adds it;
    neither messages nor the admin's log have it."""

    task = "People and access"
    form = InvitationForm
    list_display = ["id", "email", "state", "created_by", "created_at", "expires_at", "used_by", "used_at"]
    list_filter = [InvitationStateFilter]
    list_select_related = ["created_by", "used_by"]
    search_fields = ["email"]
    search_help_text = "The whole e-mail."
    fieldsets = [("Who may register", {"fields": ["email", "expires_at"]})]
    record_fields = ("state", "created_by", "created_at", "used_by", "used_at")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        return [*fieldsets, ("Invitation", {"fields": self.record_fields})] if obj else fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*super().get_readonly_fields(request, obj), *(self.record_fields if obj else ())]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Invitation | None = None) -> bool:
        """Deleting withdraws it. A used one stays until `tidy` removes it: it tells who has let somebody in."""
        return super().has_delete_permission(request, obj) and (obj is None or obj.used_at is None)

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        return (queryset.filter(email__iexact=search_term.strip()) if search_term else queryset), False

    @admin.display(description="State")
    def state(self, record: Invitation) -> str:
        return record.state

    def save_model(self, request: HttpRequest, obj: Invitation, form: Any, change: bool) -> None:
        obj.created_by = signed_in(request)
        super().save_model(request, obj, form, change)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        context |= {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().render_change_form(request, context, *args, **kwargs)

    def response_add(self, request: HttpRequest, obj: Invitation, *args: Any, **kwargs: Any) -> TemplateResponse:
        """The page with the text. The same form sent twice, by a double click, gets it twice."""
        request.added_record = obj  # type: ignore[attr-defined]  # as the base class stores it
        context = {
            **self.admin_site.each_context(request),
            "title": "Invitation added",
            "opts": self.opts,
            "invitation": obj,
            "text": write_invitation(obj),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/accounts/invitation/added.html", context)
