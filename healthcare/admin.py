"""The base of the admins: nothing is overwritten unseen, nothing is removed. It stands beside `ownership`, whose
records it shows, because every room's admin.py builds on it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db import IntegrityError, models
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from healthcare.api.constraints import broken_rule
from healthcare.ownership import Record, RecordQuerySet


class MergingForm(forms.ModelForm):
    """Takes over what was changed since the form was shown, so that what the API changed meanwhile elsewhere stays."""

    refusal: ClassVar[Mapping[str, Sequence[str]]] = {}  # what the database said to the first try, by field

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            for name in self.columns() & self.fields.keys():
                self.fields[name].show_hidden_initial = not self.fields[name].disabled

    def columns(self) -> set[str]:
        return {field.name for field in self.instance._meta.concrete_fields}

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if self.instance.pk:
            for name in self.columns() & cleaned.keys() - set(self.changed_data):
                cleaned[name] = getattr(self.instance, name)
        for name, messages in self.refusal.items():
            self.add_error(name if name in self.fields else None, list(messages))
        return cleaned

    def changed_columns(self) -> list[str]:
        """The columns whose value is another one than the row holds, derived ones too."""
        values = {name: self.cleaned_data[name] for name in self.columns() & self.cleaned_data.keys()}
        return [name for name, value in values.items() if getattr(value, "pk", value) != self.initial.get(name)]


class MergingAdmin(admin.ModelAdmin):
    """Locks a row while it is changed, saves changed columns alone, and shows on the form what a constraint says."""

    form = MergingForm
    show_full_result_count = False

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> models.Model | None:
        found = super().get_object(request, object_id, from_field)
        if found is None or request.method != "POST":
            return found
        return self.get_queryset(request).select_for_update(of=("self",), no_key=True).filter(pk=found.pk).first()

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.refusal = getattr(request, "refusal", {})  # the class was made for this request
        return form

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """The database decides what is a duplicate; its refusal is shown on the form, in a race as well."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except IntegrityError as error:
            rule = broken_rule(error)
            if rule is None:
                raise
            request.refusal = rule.detail  # type: ignore[attr-defined]
            return super().changeform_view(request, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            obj.save(update_fields=form.changed_columns())
        else:
            super().save_model(request, obj, form, change)


class StateFilter(admin.SimpleListFilter):
    """Active rows, unless the others are asked for."""

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


class RecordAdmin(MergingAdmin):
    """Records of every creator. Deleting hides; a hidden record can be looked at and no longer changed."""

    delete_confirmation_template = "admin/record_delete_confirmation.html"
    delete_selected_confirmation_template = "admin/record_delete_selected_confirmation.html"
    list_select_related: ClassVar[list[str]] = ["created_by"]
    record_fields: ClassVar[Sequence[str]] = ["created_by", "created_at", "updated_at", "version"]

    @property
    def ended_column(self) -> str:
        return self.records().ended_column

    def records(self) -> RecordQuerySet:
        records: RecordQuerySet = self.model._default_manager.all()
        return records

    def describe(self, record: Any) -> str:
        """What tells it from others of the same name, in one line."""
        return str(record)

    def owner_id(self, request: HttpRequest, record: Any) -> Any:
        """Who a new record belongs to: whoever adds it."""
        return request.user.pk

    def obstacles(self, records: Sequence[Record]) -> list[str]:
        """Why these may not be deleted, one sentence for each that may not."""
        return [f"{self.describe(record)} is already deleted." for record in records if self.is_hidden(record)]

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related(*self.list_select_related)

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        if request.resolver_match and request.resolver_match.url_name == "autocomplete":
            queryset = queryset.active()  # a hidden record is no choice
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
            obj.version += 1  # the row is locked
            obj.save(update_fields=[*changed, "version", "updated_at"])

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What the confirmation lists: the records themselves, for nothing else goes with them."""
        if request.method == "POST" and isinstance(objs, models.QuerySet):
            objs = objs.select_for_update(of=("self",), no_key=True)
        records = list(objs)
        listed = [self.linked(record) for record in records]
        allowed = self.has_delete_permission(request)
        lacking = set() if allowed else {str(self.opts.verbose_name)}
        return listed, {str(self.opts.verbose_name_plural): len(records)}, lacking, self.obstacles(records)

    def linked(self, record: Record) -> SafeString:
        route = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
        return format_html('<a href="{}">{}</a>', reverse(route, args=[record.pk]), self.describe(record))

    def delete_model(self, request: HttpRequest, obj: Record) -> None:
        self.records().filter(pk=obj.pk).end()

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        """Hides the rows that were just logged as deleted; nothing leaves the database."""
        self.records().filter(pk__in=[record.pk for record in queryset]).end()
