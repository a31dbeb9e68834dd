"""The admin of login sessions and personal access tokens."""

import ipaddress
from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.admin_actions import RevokeSessions
from accounts.models import LoginSession, User
from healthcare.admin.list_filters import ChoiceFilter, FieldChoiceFilter, RecordIdFilter
from healthcare.admin.lists import BoundedChangeList
from healthcare.admin.read_only import ReadOnlyAdmin


class SessionStateFilter(ChoiceFilter):
    """The table holds the sessions that have not expired for long, so it needs no index for their state and kind."""

    title = "state"
    parameters: ClassVar = ("state",)

    def options(self) -> dict[str, str]:
        return {"live": "Live", "ended": "Ended"}

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        live = queryset.live()
        if self.value == "ended":
            return queryset.exclude(pk__in=live.values("pk"))
        return live if self.value == "live" else queryset


class SessionKindFilter(FieldChoiceFilter):
    title = "kind"
    parameters: ClassVar = ("kind",)


class SessionUserFilter(RecordIdFilter):
    title, column = "user", "user"
    fields: ClassVar = {"user": ("Id of the user", "number")}


class SessionChangeList(BoundedChangeList):
    """Reads the owners of a page's sessions together: `acting_for` is no foreign key that could be joined."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        names = owner_names(self.result_list)
        for session in self.result_list:
            session.owner_name = names.get(session.acting_for)


@admin.register(LoginSession)
class LoginSessionAdmin(ReadOnlyAdmin):
    """Neither the list nor a page shows the hash of a token's secret or the ids of a login's refresh tokens."""

    task = "People and access"
    list_display = [
        "id", "kind", "user", "owner", "name", "scope", "address", "user_agent", "created_at", "last_used_at",
        "revoked_at",
    ]  # fmt: skip
    list_filter = [SessionStateFilter, SessionKindFilter, SessionUserFilter]
    list_select_related = ["user"]
    search_fields = ["user", "address"]
    search_help_text = "The whole username, e-mail or address."
    fields = [
        "kind", "user", "owner", "name", "scope", "address", "user_agent", "created_at", "last_used_at", "expires_at",
        "revoked_at",
    ]  # fmt: skip
    readonly_fields = ["owner"]
    actions = [RevokeSessions()]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return SessionChangeList

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="Acts for")
    def owner(self, record: LoginSession) -> str | None:
        """The owner whose records the session works on unless a request names another one; None for the user's own."""
        if record.acting_for is None:
            return None
        name = record.owner_name if hasattr(record, "owner_name") else owner_names([record]).get(record.acting_for)
        return name or f"user {record.acting_for}, who is gone"

    def describe_record(self, record: LoginSession) -> str:
        what = f"token {record.pk} ({record.name})" if record.name else f"{record.kind} {record.pk}"
        return f"{what} of {record.user}"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[LoginSession], search_term: str
    ) -> tuple[QuerySet[LoginSession], bool]:
        text = search_term.strip()
        try:
            return queryset.filter(address=str(ipaddress.ip_address(text))), False
        except ValueError:
            return queryset.filter(user=User.objects.find_by_identifier(text) or 0), False


def owner_names(sessions: Sequence[LoginSession]) -> dict[int, str]:
    """The usernames, by id, of the owners for whom these sessions act."""
    owners = {session.acting_for for session in sessions if session.acting_for is not None}
    return dict(User.objects.filter(pk__in=owners).values_list("pk", "username")) if owners else {}
