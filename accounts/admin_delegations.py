"""The admin of delegations, by which a user acts for another owner, and of the notices about them."""

from collections.abc import Sequence
from typing import Any, ClassVar, cast

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import HttpRequest, JsonResponse
from django.urls import path

from accounts.delegations.models import DelegateRole, Delegation, Notice
from accounts.delegations.rules import change_delegation, give_delegation, is_valid_expiry, revoke_delegation
from accounts.models import User, UserQuerySet
from healthcare.admin.actions import Refusals
from healthcare.admin.edit_conflicts import ConflictCheckingAdmin, ConflictCheckingForm
from healthcare.admin.list_filters import ChoiceFilter, FieldChoiceFilter, InputFilter
from healthcare.admin.owners import OwnerField, OwnerSelect, eligible_owners, suggest_users
from healthcare.admin.read_only import ReadOnlyAdmin
from healthcare.admin.record_actions import EndOnce


def eligible_delegates() -> UserQuerySet:
    """The users to whom a delegation can be given."""
    return User.objects.get_queryset().may_be_delegates()


class DelegateSelect(OwnerSelect):
    suggestions = "delegates"
    typed_label = "Username of the delegate"


class DelegateField(OwnerField):
    """An eligible delegate, whose row is not locked: the delegation of a user who is deactivated does not work."""

    locks = False
    default_error_messages = {
        "required": "Choose the delegate, who works on the owner's records.",
        "invalid_choice": "Choose the username of an active user who is not a clinic.",
    }


class DelegationForm(ConflictCheckingForm):
    def clean_expires_at(self) -> Any:
        expires_at = self.cleaned_data["expires_at"]
        if not is_valid_expiry(expires_at):
            raise forms.ValidationError("Choose a time in the future; to end the delegation now, revoke it.")
        return expires_at

    def _get_validation_exclusions(self) -> set[str]:
        """`give_delegation` decides whether a new one is unique, since it first ends one that has expired."""
        return super()._get_validation_exclusions() | (set() if self.instance.pk else {"delegate"})


class DelegationStateFilter(ChoiceFilter):
    """Delegations are few: each is given by a person. So no index serves this filter and that by role."""

    title = "state"
    parameters: ClassVar = ("state",)
    default = "living"

    def options(self) -> dict[str, str]:
        return {"living": "Living", "past": "Past", "all": "All"}

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return {"living": queryset.living, "past": queryset.past, "all": queryset.all}[self.value]()


class UsernameFilter(InputFilter):
    """The rows of one user, by the whole username in any case. The parameter is named like the column."""

    def read(self) -> None:
        [name] = self.fields
        username = self.given(name).strip().lower()
        users = User.objects.filter(username__lower=username).values_list("pk", flat=True)
        self.user_id = (users.first() or 0) if username else None

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        [name] = self.fields
        return queryset if self.user_id is None else queryset.filter(**{name: self.user_id})


class DelegationOwnerFilter(UsernameFilter):
    title = "owner"
    fields: ClassVar = {"owner": ("Username", "text")}


class DelegateFilter(UsernameFilter):
    title = "delegate"
    fields: ClassVar = {"delegate": ("Username", "text")}


class DelegateRoleFilter(FieldChoiceFilter):
    title = "role"
    parameters: ClassVar = ("role",)

    def options(self) -> dict[str, str]:
        return {role: role for role in DelegateRole.values}


class RevokeDelegations(EndOnce):
    name = "revoke"
    permission = "change"
    end_column, already = "revoked_at", "has already ended"
    label = "Revoke selected delegations"
    verb, done = "revoke", "revoked"
    explanation = (
        "From the next request on, the delegate can no longer act for the owner. What the delegate has entered stays "
        "with the owner. To let the delegate work for the owner again, add a delegation."
    )

    def is_offered_for(self, record: Delegation) -> bool:
        return record.is_living

    def refusals(self, model_admin: Any, request: HttpRequest, records: Sequence[Delegation]) -> Refusals:
        refused = super().refusals(model_admin, request, records)
        needed = Delegation.objects.last_of_clinics([record.pk for record in records if record.pk not in refused])
        reason = "gives a clinic its last manager; first make another user its manager"
        return refused | dict.fromkeys(needed.values_list("pk", flat=True), reason)

    def perform(self, model_admin: Any, request: HttpRequest, records: Sequence[Delegation]) -> str:
        for delegation in records:
            revoke_delegation(delegation, by=signed_in(request))
        return ""


@admin.register(Delegation)
class DelegationAdmin(ConflictCheckingAdmin):
    """Owner and delegate are chosen when a delegation is added, and fixed afterwards. Nothing deletes a row: who could
    see the records of an owner, and when, stays known. The rules are those of the API: see `delegations.rules`."""

    task = "People and access"
    form = DelegationForm
    list_display = ["id", "owner", "delegate", "role_name", "state", "expires_at", "created_at"]
    list_filter = [DelegationStateFilter, DelegationOwnerFilter, DelegateFilter, DelegateRoleFilter]
    list_select_related = ["owner", "delegate"]
    search_fields = ["owner", "delegate"]
    search_help_text = "The whole username or e-mail of the owner or the delegate."
    actions = [RevokeDelegations()]
    people = ("owner", "delegate")
    fieldsets = [
        ("Who acts for whom", {"fields": ["owner", "delegate"]}),
        ("What the delegate may do", {"fields": ["role", "expires_at", "note"]}),
    ]
    record_fields = ("state", "created_at", "revoked_at")

    def get_urls(self) -> list[Any]:
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        suggestions = {"owners": eligible_owners, "delegates": eligible_delegates}
        own = [
            path(f"{part}/", self.admin_site.admin_view(self.suggesting_view(users)), name=f"{name}_{part}")
            for part, users in suggestions.items()
        ]
        return [*own, *super().get_urls()]

    def suggesting_view(self, users: Any) -> Any:
        def suggest(request: HttpRequest) -> JsonResponse:
            if not self.has_add_permission(request):
                raise PermissionDenied
            return suggest_users(users(), request.GET.get("term", ""))

        return suggest

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        return [*fieldsets, ("Delegation", {"fields": self.record_fields})] if obj else fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*super().get_readonly_fields(request, obj), *((*self.people, *self.record_fields) if obj else ())]

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Owner and delegate without Django's links around them, which lead to pages of users."""
        attributes = {"class": "owner-select"}
        if db_field.name == "owner":
            return OwnerField(
                eligible_owners(),
                label="Owner",
                widget=OwnerSelect(db_field, self.admin_site, attrs=attributes),
                help_text="The clinic or the user whose records the delegate works on.",
                error_messages={"required": "Choose the owner, whose records the delegate works on."},
            )
        if db_field.name == "delegate":
            return DelegateField(
                eligible_delegates(),
                label="Delegate",
                widget=DelegateSelect(db_field, self.admin_site, attrs=attributes),
                help_text="The user who gets access. Type the beginning of the username.",
            )
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def has_change_permission(self, request: HttpRequest, obj: Delegation | None = None) -> bool:
        return super().has_change_permission(request, obj) and (obj is None or obj.is_living)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def why_unchangeable(self, request: HttpRequest, record: Delegation) -> str:
        if record.is_living or not self.has_change_permission(request):
            return ""
        return "This delegation has ended. Add another one instead."

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        user = User.objects.find_by_identifier(search_term)
        return queryset.filter(Q(owner=user) | Q(delegate=user)) if user else queryset.none(), False

    @admin.display(description="Role")
    def role_name(self, record: Delegation) -> str:
        return record.role

    def formfield_for_choice_field(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """The roles by their names in the API, with what each allows."""
        kwargs["choices"] = [(role.value, f"{role.value}: {role.label}") for role in DelegateRole]
        return super().formfield_for_choice_field(db_field, request, **kwargs)

    def describe_record(self, record: Delegation) -> str:
        return f"{record.delegate} for {record.owner}, {record.role}"

    @admin.display(description="State")
    def state(self, record: Delegation) -> str:
        if record.revoked_at:
            return "revoked"
        if not record.is_living:
            return "expired"
        return "living" if record.owner.is_active and record.delegate.is_active else "does not work: user inactive"

    def save_model(self, request: HttpRequest, obj: Delegation, form: Any, change: bool) -> None:
        by = signed_in(request)
        if change:
            values = {name: form.cleaned_data[name] for name in form.changed_columns()}
            change_delegation(obj, by, **values)
        else:
            given = give_delegation(obj.owner, obj.delegate, obj.role, by, note=obj.note, expires_at=obj.expires_at)
            obj.pk = given.pk


class UnreadFilter(UsernameFilter):
    """Served by the index of the notices that are not read."""

    title = "user, not read yet"
    fields: ClassVar = {"user": ("Username", "text")}

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        found = super().queryset(request, queryset)
        return found if self.user_id is None else found.filter(read_at=None)


@admin.register(Notice)
class NoticeAdmin(ReadOnlyAdmin):
    task = "People and access"
    list_display = ["id", "at", "user", "kind", "by", "read_at"]
    list_filter = [UnreadFilter]
    list_select_related = ["user", "by"]
    fields = ["user", "kind", "by", "about", "at", "read_at"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def signed_in(request: HttpRequest) -> User:
    """The member of staff who sends the request."""
    return cast(User, request.user)
