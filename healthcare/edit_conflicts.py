"""Forms of the admin that overwrite nothing unseen, and admins that save only what was changed on them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.widgets import AutocompleteMixin, AutocompleteSelect, AutocompleteSelectMultiple
from django.core.exceptions import BadRequest
from django.db import IntegrityError, models
from django.http import HttpRequest

from healthcare.api.integrity_errors import broken_rule

ID = re.compile(r"\A[0-9]{1,18}\Z")
SAFE_KEY = re.compile(r"\A[^\0]*\Z")


class ConflictCheckingForm(forms.ModelForm):
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


class OnlyIds(AutocompleteMixin):
    """Django's own widget fails on a choice that is no id, such as an address typed by hand can hold."""

    def optgroups(self, name: str, value: Sequence[str], attr: Any = None) -> Any:
        return super().optgroups(name, [choice for choice in value if ID.match(str(choice))], attr)


class IdSelect(OnlyIds, AutocompleteSelect):
    pass


class IdSelectMultiple(OnlyIds, AutocompleteSelectMultiple):
    pass


class ConflictCheckingAdmin(admin.ModelAdmin):
    """Locks a row while it is changed, saves changed columns alone, and shows on the form what a constraint says."""

    form = ConflictCheckingForm
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> Any:
        related = self.list_select_related  # for the form as well
        found = super().get_queryset(request)
        return found.select_related(*related) if isinstance(related, list) else found

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        found = super().get_object(request, object_id, from_field)
        if found is None or request.method != "POST":
            return found
        return self.get_queryset(request).select_for_update(of=("self",), no_key=True).filter(pk=found.pk).first()

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        try:
            return super().get_changelist_instance(request)
        except ValueError as error:  # such as a NUL or the year 0 in the query
            raise IncorrectLookupParameters from error

    def response_action(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Refuses (400) a selection that holds what is no key."""
        for selected in request.POST.getlist(ACTION_CHECKBOX_NAME):
            if not (SAFE_KEY if isinstance(self.opts.pk, models.CharField) else ID).match(selected):
                raise BadRequest
        return super().response_action(request, *args, **kwargs)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.refusal = getattr(request, "refusal", {})  # the class was made for this request
        return form

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name in self.get_autocomplete_fields(request):
            kwargs["widget"] = IdSelect(db_field, self.admin_site)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_manytomany(self, db_field: Any, request: Any = None, **kwargs: Any) -> Any:
        if db_field.name in self.get_autocomplete_fields(request):
            kwargs["widget"] = IdSelectMultiple(db_field, self.admin_site)
        return super().formfield_for_manytomany(db_field, request, **kwargs)

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
