"""Users, their login sessions and the counted attempts in the admin."""

import ipaddress
from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import model_ngettext
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import AdminUserCreationForm, UserChangeForm
from django.contrib.auth.models import Group
from django.db.models import PROTECT, QuerySet
from django.http import HttpRequest

from accounts.identifiers import normalize
from accounts.limits import key, network
from accounts.models import Attempts, LoginSession, LoginSessionQuerySet, User
from healthcare.edit_conflicts import ConflictCheckingAdmin, ConflictCheckingForm


class UserForm(ConflictCheckingForm, UserChangeForm):
    pass


class UserAddForm(ConflictCheckingForm, AdminUserCreationForm):
    def clean_username(self) -> str:
        # The constraint on the lower case says what is taken; Django's own look would read the whole table.
        return str(self.cleaned_data["username"])


@admin.register(User)
class UserAdmin(ConflictCheckingAdmin, DjangoUserAdmin):
    """Only a superuser gives rights or touches staff: else one right, to change users, would give every other."""

    form = UserForm
    add_form = UserAddForm
    ordering = ["-id"]
    list_display = ["username", "email", "name", "is_active", "is_staff", "last_login", "created_at"]
    list_filter = ["is_active", "is_staff", "is_superuser", "created_at"]
    search_fields = ["username", "email", "name"]
    search_help_text = "Username, e-mail or name."
    autocomplete_fields = ["groups"]
    filter_horizontal = ["user_permissions"]
    readonly_fields = ["last_login", "created_at"]
    rights = ("is_staff", "is_superuser", "groups", "user_permissions")
    fieldsets = [
        (None, {"fields": ["name", "email", "username", "password"]}),
        ("Permissions", {"fields": ["is_active", *rights]}),
        ("Times", {"fields": ["last_login", "created_at"]}),
    ]
    add_fieldsets = [(None, {"fields": ["name", "email", "username", "usable_password", "password1", "password2"]})]

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        rights = () if request.user.is_superuser else self.rights
        return [*super().get_readonly_fields(request, obj), *rights]

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_change_permission(request, obj) and may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and may_touch(request, obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """A user who owns records, or is in the admin's history, stays. Login sessions go with their user."""
        owned = owned_by(list(objs))
        if owned:
            return [], {}, set(), owned
        listed, counts, lacking, protected = super().get_deleted_objects(objs, request)
        return listed, counts, lacking - {LoginSession._meta.verbose_name}, protected


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(ConflictCheckingAdmin, DjangoGroupAdmin):
    """Groups give rights, so only a superuser changes them."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return super().has_add_permission(request) and bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return super().has_change_permission(request, obj) and bool(request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return super().has_delete_permission(request, obj) and bool(request.user.is_superuser)


def may_touch(request: HttpRequest, user: User | None) -> bool:
    """Whether this member of staff may change that user; one who has no rights, unless a superuser asks."""
    return user is None or bool(request.user.is_superuser) or not (user.is_staff or user.is_superuser)


def owned_by(users: list[User]) -> list[str]:
    """How many rows of what kind keep these users from being deleted."""
    owned = []
    for relation in User._meta.get_fields(include_hidden=True):
        model: Any = relation.related_model
        if model is LogEntry or getattr(relation, "on_delete", None) is PROTECT:
            rows = model._base_manager.filter(**{f"{relation.field.name}__in": users}).count()  # type: ignore[union-attr]
            owned += [f"{rows} {model_ngettext(model._meta, rows)}"] if rows else []
    return owned


class ReadOnlyAdmin(ConflictCheckingAdmin):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class LiveFilter(admin.SimpleListFilter):
    title, parameter_name = "state", "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("live", "Live"), ("ended", "Ended")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        live = queryset.live()
        if self.value() == "ended":
            return queryset.exclude(pk__in=live.values("pk"))
        return live if self.value() == "live" else queryset


@admin.register(LoginSession)
class LoginSessionAdmin(ReadOnlyAdmin):
    list_display = ["id", "user", "address", "user_agent", "created_at", "last_used_at", "expires_at", "revoked_at"]
    list_filter = [LiveFilter, "created_at"]
    list_select_related = ["user"]
    search_fields = ["=user__username", "=user__email", "user__name", "=address"]
    search_help_text = "The whole username, e-mail or address, or a part of the name."
    fields = ["user", "address", "user_agent", "created_at", "last_used_at", "expires_at", "revoked_at"]
    actions = ["revoke"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("accounts.change_loginsession")

    @admin.action(description="Revoke selected login sessions", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: LoginSessionQuerySet) -> None:
        """Ends these logins at once: the next request with one of their tokens answers 401."""
        sessions = list(queryset.filter(revoked_at=None))
        LoginSession.objects.filter(pk__in=[session.pk for session in sessions]).revoke()
        if sessions:
            LogEntry.objects.log_actions(request.user.pk or 0, sessions, CHANGE, "Revoked.")
        self.message_user(request, f"Revoked {len(sessions)} login sessions.")


@admin.register(Attempts)
class AttemptsAdmin(ReadOnlyAdmin):
    """Deleting a row lets its account or address try again at once."""

    list_display = ["key", "count", "until"]
    ordering = ["-until"]
    search_fields = ["key"]
    search_help_text = "A username, an e-mail or an address; what is kept is only a hash of it."

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Attempts], search_term: str
    ) -> tuple[QuerySet[Attempts], bool]:
        return (queryset.filter(key__in=keys_of(search_term)) if search_term else queryset), False


def keys_of(term: str) -> Iterator[str]:
    """The keys under which whatever was typed may be counted."""
    user = User.objects.named(term)
    yield term
    yield key("account", str(user.pk)) if user else key("unknown", normalize(term))
    try:
        address = network(str(ipaddress.ip_address(term)))
    except ValueError:
        return
    yield key("address", address)
    yield key("registration", address)
