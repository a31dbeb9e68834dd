"""The base of the admin of every model of records (`ownership.Record`): delete hides, and the creator is fixed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from healthcare.admin.edit_conflicts import ConflictCheckingAdmin
from healthcare.ownership import Record, RecordQuerySet


class StateFilter(admin.SimpleListFilter):
    """Lists active records, or on request the hidden ones or all."""

    title = parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("hidden", "Ended" if model_admin.ended_column == "ended_at" else "Deleted"), ("all", "All")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() == "hidden":
            return queryset.exclude(**{f"{queryset.ended_column}__isnull": True})
        return queryset if self.value() == "all" else queryset.active()

    def choices(self, changelist: Any) -> Iterator[Any]:
        everything, *others = super().choices(changelist)
        yield {**everything, "display": "Active"}
        yield from others


@dataclass(frozen=True)
class DeletionObstacle:
    """Why some records cannot be deleted: `find` returns those among the given ones. `reason` completes the sentence
    that begins with the description of a record."""

    find: Callable[[Sequence[Any]], Iterable[Record]]
    reason: str


class RecordAdmin(ConflictCheckingAdmin):
    """Records of every creator. Deleting one hides it. A hidden record can be viewed and not changed."""

    delete_confirmation_template = "admin/record_delete_confirmation.html"
    delete_selected_confirmation_template = "admin/record_delete_selected_confirmation.html"
    list_select_related: ClassVar[list[str]] = ["created_by"]
    record_fields: ClassVar[Sequence[str]] = ["created_by", "created_at", "updated_at", "version"]

    registered_obstacles: ClassVar[Sequence[DeletionObstacle]] = ()

    @classmethod
    def register_obstacle(cls, obstacle: DeletionObstacle) -> None:
        """Let an app above this one, which this admin does not know of, prevent deletions."""
        cls.registered_obstacles = [*cls.registered_obstacles, obstacle]

    @property
    def ended_column(self) -> str:
        return self.records().ended_column

    def records(self) -> RecordQuerySet:
        records: RecordQuerySet = self.model._default_manager.all()
        return records

    def describe_record(self, record: Any) -> str:
        """One line that distinguishes the record from others of the same name."""
        return str(record)

    def owner_id(self, request: HttpRequest, record: Any) -> Any:
        """The id of the user who owns a new record: the one who adds it."""
        return request.user.pk

    def deletion_obstacles(self, records: Sequence[Record]) -> list[str]:
        """One sentence for each of these records that cannot be deleted, with the reason."""
        return [
            f"{self.describe_record(record)} {obstacle.reason}"
            for obstacle in (DeletionObstacle(self.hidden_among, "is already deleted."), *self.registered_obstacles)
            for record in obstacle.find(records)
        ]

    def hidden_among(self, records: Sequence[Record]) -> list[Record]:
        return [record for record in records if self.is_hidden(record)]

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        if request.resolver_match and request.resolver_match.url_name == "autocomplete":
            queryset = queryset.active()  # hidden records cannot be chosen
        return super().get_search_results(request, queryset, search_term)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        record = [("Record", {"fields": [*self.record_fields, self.ended_column]})] if obj else []
        return [(None, {"fields": self.fields}), *record]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*super().get_readonly_fields(request, obj), *self.record_fields, self.ended_column]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and not self.is_hidden(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and not self.is_hidden(obj)

    def is_hidden(self, record: Record | None) -> bool:
        return record is not None and getattr(record, self.ended_column) is not None

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        changed = form.changed_columns()
        if not change:
            obj.created_by_id = self.owner_id(request, obj)
            obj.save()
        elif changed:
            obj.save(update_fields=changed)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """List the records themselves on the confirmation page: nothing else is deleted with them."""
        if request.method == "POST" and isinstance(objs, models.QuerySet):
            objs = objs.select_for_update(of=("self",), no_key=True)
        records = list(objs)
        listed = [self.linked(record) for record in records]
        allowed = self.has_delete_permission(request)
        lacking = set() if allowed else {str(self.opts.verbose_name)}
        return listed, {str(self.opts.verbose_name_plural): len(records)}, lacking, self.deletion_obstacles(records)

    def linked(self, record: Record) -> SafeString:
        route = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
        return format_html('<a href="{}">{}</a>', reverse(route, args=[record.pk]), self.describe_record(record))

    def delete_model(self, request: HttpRequest, obj: Record) -> None:
        self.records().filter(pk=obj.pk).end()

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        """Hide the records instead of deleting their rows."""
        self.records().filter(pk__in=[record.pk for record in queryset]).end()
