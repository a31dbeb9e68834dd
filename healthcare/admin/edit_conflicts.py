"""Lost-update protection in the admin: a form saves only the columns that were changed on it, on a locked row."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from django import forms
from django.db import IntegrityError
from django.http import HttpRequest

from healthcare.admin.actions import ActionsAdmin
from healthcare.admin.autocomplete import IdSelect, IdSelectMultiple
from healthcare.admin.history import HistoryAdmin
from healthcare.admin.lists import ListAdmin
from healthcare.api.integrity_errors import broken_rule


class ConflictCheckingForm(forms.ModelForm):
    """Saves only the fields that the user changed. The others keep what is in the database now, which the API may have
    changed since the form was rendered."""

    # The messages of the constraint that the first attempt to save violated, by field.
    constraint_errors: ClassVar[Mapping[str, Sequence[str]]] = {}

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
        for name, messages in self.constraint_errors.items():
            self.add_error(name if name in self.fields else None, list(messages))
        return cleaned

    def changed_columns(self) -> list[str]:
        """The columns whose new value differs from the row's, those that `clean` derives included."""
        values = {name: self.cleaned_data[name] for name in self.columns() & self.cleaned_data.keys()}
        return [name for name, value in values.items() if getattr(value, "pk", value) != self.initial.get(name)]


class ConflictCheckingAdmin(HistoryAdmin, ActionsAdmin, ListAdmin):
    """Locks the row that is being changed, saves only changed columns, and reports violated constraints on the form."""

    form = ConflictCheckingForm

    def get_queryset(self, request: HttpRequest) -> Any:
        related = self.list_select_related  # Django applies it to the list alone
        rows = super().get_queryset(request)
        return rows.select_related(*related) if isinstance(related, list) else rows

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        record = super().get_object(request, object_id, from_field)
        if record is None or request.method != "POST":
            return record
        return self.get_queryset(request).select_for_update(of=("self",), no_key=True).filter(pk=record.pk).first()

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.constraint_errors = getattr(request, "constraint_errors", {})  # Django builds a form class per request
        return form

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """A choice shows the name of the related record, so who may not view those records can choose none."""
        if db_field.name in self.get_autocomplete_fields(request):
            kwargs["widget"] = IdSelect(db_field, self.admin_site)
            if not self.admin_site.get_model_admin(db_field.related_model).has_view_permission(request):
                kwargs["queryset"] = db_field.related_model._default_manager.none()
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_manytomany(self, db_field: Any, request: Any = None, **kwargs: Any) -> Any:
        if db_field.name in self.get_autocomplete_fields(request):
            kwargs["widget"] = IdSelectMultiple(db_field, self.admin_site)
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Report a violated constraint on the form instead of as a 500, also when two requests race."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except IntegrityError as error:
            rule = broken_rule(error)
            if rule is None:
                raise
            request.constraint_errors = rule.detail  # type: ignore[attr-defined]
            return super().changeform_view(request, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            obj.save(update_fields=form.changed_columns())
        else:
            super().save_model(request, obj, form, change)
