"""Clinics in the admin of users: adding one with its first manager, and a form without a login."""

from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.auth.forms import UsernameField
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse

from accounts.admin_delegations import DelegateField, DelegateSelect, eligible_delegates
from accounts.delegations.models import Delegation
from accounts.delegations.rules import found_clinic
from accounts.identifiers import NOT_AN_ID
from accounts.models import User
from healthcare.admin.edit_conflicts import ConflictCheckingForm
from healthcare.model_fields import ID_TEXT

ADDS_CLINIC = "clinic"  # the parameter with which the form to add a user adds a clinic


class ClinicForm(ConflictCheckingForm):
    """Adds a clinic. Its first manager gives the other delegations."""

    manager = DelegateField(
        eligible_delegates(),
        label="First manager",
        help_text="The user who gives others their delegations. Type the beginning of the username.",
        error_messages={"required": "Choose the first manager: nobody logs in to a clinic itself."},
    )

    class Meta:
        model = User
        fields = ("name", "username")
        field_classes: ClassVar = {"username": UsernameField}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance.is_clinic = True
        self.instance.set_unusable_password()

    def clean_username(self) -> str:
        username = str(self.cleaned_data["username"])
        NOT_AN_ID(username)
        return username


class ClinicsAdmin(admin.ModelAdmin):
    """The part of the admin of users that is about clinics. The permission to add users allows to add a clinic: it
    begins without records, so its manager gains access to none."""

    clinic_fieldsets = [
        ("Clinic", {"fields": ["name", "username", "is_active"]}),
        ("Times", {"fields": ["created_at"]}),
    ]
    clinic_add_fieldsets = [("Clinic", {"fields": ["name", "username", "manager"]})]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        links = [(f"add/?{ADDS_CLINIC}=1", "Add clinic")] if self.has_add_permission(request) else []
        return super().changelist_view(request, {"list_links": links, **(extra_context or {})})

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        clinic = {"title": "Add clinic", "adds_clinic": True} if concerns_clinic(request, None) else {}
        return super().add_view(request, form_url, {**clinic, **(extra_context or {})})

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        if not concerns_clinic(request, obj):
            return super().get_fieldsets(request, obj)
        return self.clinic_fieldsets if obj else self.clinic_add_fieldsets

    def get_form(self, request: HttpRequest, obj: User | None = None, change: bool = False, **kwargs: Any) -> Any:
        if obj or not concerns_clinic(request, obj):
            existing: Any = super().get_form(request, obj, change=change, **kwargs)
            if obj and obj.is_clinic and "is_active" in existing.base_fields:
                existing.base_fields["is_active"].help_text = "Unticking ends the access of all delegates at once."
            return existing
        form: Any = super().get_form(request, obj, change=change, **{**kwargs, "form": ClinicForm})
        column = Delegation._meta.get_field("delegate")
        form.base_fields["manager"].widget = DelegateSelect(column, self.admin_site, attrs={"class": "owner-select"})
        return form

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        if obj.is_clinic and not change:
            obj.pk = found_clinic(obj.name, obj.username, form.cleaned_data["manager"]).pk
        else:
            super().save_model(request, obj, form, change)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002
        if ID_TEXT.match(id) and User.objects.filter(pk=id, is_clinic=True).exists():
            raise PermissionDenied
        answer: HttpResponse = super().user_change_password(request, id, form_url)  # type: ignore[misc]
        return answer


def concerns_clinic(request: HttpRequest, user: User | None) -> bool:
    """Whether the form of this user, None for a new one, is that of a clinic."""
    return user.is_clinic if user else request.GET.get(ADDS_CLINIC) == "1"
