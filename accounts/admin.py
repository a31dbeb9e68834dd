"""The admin of users, groups and attempts."""

import ipaddress
from collections.abc import Iterator
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import model_ngettext
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import AdminPasswordChangeForm, AdminUserCreationForm, UserChangeForm, UsernameField
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.db.models import PROTECT, Q, QuerySet
from django.http import HttpRequest, HttpResponse

from accounts import (
    admin_invitations,  # noqa: F401  (registers the admin of invitations)
    admin_login_sessions,  # noqa: F401  (registers the admin of login sessions)
)
from accounts.admin_actions import DeactivateUsers, ReactivateUsers, RemoveSecondFactor, may_change_user
from accounts.admin_clinics import ClinicsAdmin, concerns_clinic
from accounts.admin_home import read_refused_logins
from accounts.client_address import client_network
from accounts.delegations.models import Delegation, Notice
from accounts.email_links.limits import Purpose, emails_from_key, emails_to_key, wrong_links_key
from accounts.identifiers import normalize_identifier
from accounts.leaving.attempts import attempts_of, own_address_of
from accounts.limits import account_key, attempts_key, pair_key
from accounts.models import Attempts, LoginSession, User
from accounts.second_factor.models import confirmed_factor
from healthcare.admin.edit_conflicts import ConflictCheckingAdmin, ConflictCheckingForm
from healthcare.admin.home import Panel
from healthcare.admin.list_filters import DayRangeFilter, FieldChoiceFilter, FlagFilter
from healthcare.admin.lists import BoundedChangeList
from healthcare.admin.read_only import ReadOnlyAdmin

LABELS = {"email": "E-mail", "pending_email": "E-mail to be confirmed"}
# Django's text names other ways to log in, and there are none.
ABOUT_DISABLING = "A user for whom this is disabled has no password and cannot log in."


class UserForm(ConflictCheckingForm, UserChangeForm):
    class Meta(UserChangeForm.Meta):
        labels = LABELS


class UserPasswordForm(AdminPasswordChangeForm):
    # Django's script shows the warning while it applies.
    usable_password_help_text = (
        f'{ABOUT_DISABLING}<ul id="id_unusable_warning" class="messagelist"><li class="warning">'
        "The present password will be lost.</li></ul>"
    )


class UserAddForm(ConflictCheckingForm, AdminUserCreationForm):
    usable_password = AdminUserCreationForm.create_usable_password_field(ABOUT_DISABLING)

    class Meta(AdminUserCreationForm.Meta):
        labels = LABELS

    def clean_username(self) -> str:
        # The constraint on lower(username) reports a taken name; Django's own check would scan the table.
        return str(self.cleaned_data["username"])


class UserWithoutPasswordForm(ConflictCheckingForm):
    """Adds a user who cannot log in yet: a password that staff choose would let them log in as an owner of patients."""

    class Meta:
        model = User
        fields = ("name", "email", "username")
        field_classes: ClassVar = {"username": UsernameField}
        labels = LABELS

    def save(self, commit: bool = True) -> User:
        self.instance.set_unusable_password()
        user: User = super().save(commit)
        return user


class ActiveFilter(FlagFilter):
    title = "active"
    parameters: ClassVar = ("is_active",)


class StaffFilter(FlagFilter):
    title = "staff"
    parameters: ClassVar = ("is_staff",)


class ClinicFilter(FlagFilter):
    title = "clinic"
    parameters: ClassVar = ("is_clinic",)


@admin.register(User)
class UserAdmin(ClinicsAdmin, ConflictCheckingAdmin, DjangoUserAdmin):
    """Only a superuser grants permissions or changes staff: otherwise `change_user` would imply every permission.

    A member of staff who sets a user's password, username or e-mail can log in as that user, and read the patients
    through the API. Setting them takes `set_credentials_user`, and `is_active` takes `deactivate_user`.
    """

    task = "People and access"
    actions = [DeactivateUsers(), ReactivateUsers(), RemoveSecondFactor()]
    form = UserForm
    add_form = UserAddForm
    change_password_form = UserPasswordForm
    ordering = ["-id"]
    list_display = ["username", "email", "name", "is_active", "is_staff", "last_login", "created_at"]
    list_filter = [ActiveFilter, StaffFilter, ClinicFilter, DayRangeFilter]
    search_fields = ["username", "email", "name"]
    search_help_text = "The beginning of a username, an e-mail or a name."
    autocomplete_fields = ["groups"]
    filter_horizontal = ["user_permissions"]
    readonly_fields = ["email_verified", "pending_email", "has_second_factor", "last_login", "created_at"]
    permission_fields = ("is_staff", "is_superuser", "groups", "user_permissions")
    credential_fields = ("email", "username")
    fieldsets = [
        ("Person and login", {"fields": ["name", "email", "username", "password"]}),
        ("Proofs", {"fields": ["email_verified", "pending_email", "has_second_factor"]}),
        ("Rights", {"fields": ["is_active", *permission_fields]}),
        ("Times", {"fields": ["last_login", "created_at"]}),
    ]
    add_fieldsets = [
        ("Person and login", {"fields": ["name", "email", "username"]}),
        ("Password", {"fields": ["usable_password", "password1", "password2"]}),
    ]

    def list_columns(self, changelist: BoundedChangeList) -> list[str]:
        return ["created_at", "id"] if changelist.filter_of(DayRangeFilter).is_active else ["id"]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[User], search_term: str
    ) -> tuple[QuerySet[User], bool]:
        """Users by the beginnings that an index serves each."""
        text = search_term.strip().lower()
        columns = ("username", "email", "name")
        condition = Q(*((f"{column}__lower__startswith", text) for column in columns), _connector=Q.OR)
        return queryset.filter(condition), False

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        """Without what concerns the password and the next e-mail, for a member of staff who may not set them."""
        fieldsets = super().get_fieldsets(request, obj)
        if may_set_credentials(request) or concerns_clinic(request, obj):
            return fieldsets
        hidden = {"password", "usable_password", "password1", "password2", "pending_email"}
        hint = {} if obj else {"description": "The user can log in once a superuser has set a password."}
        return [
            (title, {**options, **hint, "fields": fields})
            for title, options in fieldsets
            if (fields := [name for name in options["fields"] if name not in hidden])
        ]

    @admin.display(description="E-mail verified", boolean=True)
    def email_verified(self, user: User) -> bool:
        return user.has_verified_email

    @admin.display(description="Second factor", boolean=True)
    def has_second_factor(self, user: User) -> bool:
        return confirmed_factor(user) is not None

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        read_only = [*super().get_readonly_fields(request, obj)]
        if not request.user.is_superuser:
            read_only += self.permission_fields
        if obj and not may_set_credentials(request):
            read_only += self.credential_fields
        if not request.user.has_perm("accounts.deactivate_user"):
            read_only.append("is_active")
        if obj and obj.pk == request.user.pk:  # as `DeactivateUsers`: nobody locks themselves out, or everybody
            read_only += ["is_active", "is_staff", "is_superuser"]
        return read_only

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is None and not may_set_credentials(request):
            kwargs["form"] = UserWithoutPasswordForm
        return super().get_form(request, obj, change=change, **kwargs)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002
        if not may_set_credentials(request):
            raise PermissionDenied
        return super().user_change_password(request, id, form_url)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_change_permission(request, obj) and may_change_user(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and may_change_user(request, obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """A user who owns records, or has delegations or entries in the admin's log, cannot be deleted. Login sessions
        and notices are deleted with their user, which needs no permission of its own."""
        references = describe_protected_references(list(objs))
        if references:
            return [], {}, set(), references
        with_their_user = {model._meta.verbose_name for model in (LoginSession, Notice)}
        to_delete, counts, perms_needed, protected = super().get_deleted_objects(objs, request)
        return to_delete, counts, perms_needed - with_their_user, protected


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(ConflictCheckingAdmin, DjangoGroupAdmin):
    """Groups grant permissions, so only a superuser changes them."""

    task = "People and access"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return super().has_add_permission(request) and bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return super().has_change_permission(request, obj) and bool(request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return super().has_delete_permission(request, obj) and bool(request.user.is_superuser)


def may_set_credentials(request: HttpRequest) -> bool:
    return request.user.has_perm("accounts.set_credentials_user")


def describe_protected_references(users: list[User]) -> list[str]:
    """The rows that prevent these users' deletion, as texts such as "1 patient"."""
    references = []
    for relation in User._meta.get_fields(include_hidden=True):
        model: Any = relation.related_model
        if model in {LogEntry, Delegation} or getattr(relation, "on_delete", None) is PROTECT:
            rows = model._base_manager.filter(**{f"{relation.field.name}__in": users}).count()  # type: ignore[union-attr]
            references += [f"{rows} {model_ngettext(model._meta, rows)}"] if rows else []
    return references


class KindFilter(FieldChoiceFilter):
    title = "what it counts"
    parameters = ("kind",)


class CountedFilter(DayRangeFilter):
    """By the day of the last attempt, or on which one may try again."""

    title = "last counted"
    column = "until"
    fields: ClassVar = {"counted_from": ("From", "date"), "counted_to": ("To", "date")}


@admin.register(Attempts)
class AttemptsAdmin(ReadOnlyAdmin):
    """Deleting a row lets its account, address or account from an address try again immediately."""

    task = "People and access"
    home_panels = [Panel("Refused logins", read_refused_logins)]
    list_display = ["key", "kind", "count", "until"]
    list_filter = [KindFilter, CountedFilter]
    search_fields = ["key"]
    search_help_text = (
        "A whole username, e-mail or address, or username and address with a space between. Only hashes are stored."
    )

    def list_columns(self, changelist: BoundedChangeList) -> list[str]:
        return ["until", "key"]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Attempts], search_term: str
    ) -> tuple[QuerySet[Attempts], bool]:
        return (queryset.filter(key__in=possible_keys(search_term)) if search_term else queryset), False


def possible_keys(term: str) -> Iterator[str]:
    """The keys under which this username, e-mail or address may be counted, or both with a blank between them. The
    term itself may be a key."""
    yield term
    identifier, _, address = term.strip().rpartition(" ")
    network = read_network(address)
    if network is None or not identifier:
        identifier = term
    user = User.objects.find_by_identifier(identifier)
    account = account_key(identifier, user)
    yield account
    if network is not None:
        yield pair_key(network, account)
    if user:
        yield from attempts_of(user, own_address_of(user))
    yield from (emails_to_key(purpose, normalize_identifier(identifier)) for purpose in Purpose)
    if network is not None and identifier == term:
        yield attempts_key("address", network)
        yield attempts_key("registration", network)
        yield wrong_links_key(network)
        yield from (emails_from_key(purpose, network) for purpose in Purpose)


def read_network(address: str) -> str | None:
    """The address block that attempts are counted by; None if the text is not an IP address."""
    try:
        return client_network(str(ipaddress.ip_address(address)))
    except ValueError:
        return None
