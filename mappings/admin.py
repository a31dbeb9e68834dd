"""Who treats whom, in the admin. An assignment belongs to the owner of its patient, whoever adds it."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from audit.admin import ReadsRecordedAdmin
from healthcare.admin import RecordAdmin, StateFilter
from healthcare.edit_conflicts import ConflictCheckingForm
from mappings.models import Mapping


class MappingForm(ConflictCheckingForm):
    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        for name in ("patient", "doctor"):  # locked in this order, so that neither can be deleted before it is assigned
            chosen = cleaned.get(name)
            if chosen and not self.instance.pk:
                still_there = type(chosen).objects.active().locked().filter(pk=chosen.pk).first()
                if still_there is None:
                    self.add_error(name, "This record has just been deleted.")
        return cleaned


@admin.register(Mapping)
class MappingAdmin(ReadsRecordedAdmin, RecordAdmin):
    form = MappingForm
    list_display = ["id", "patient", "doctor", "role", "is_primary", "started_at", "ended_at", "created_by"]
    list_filter = [StateFilter, "is_primary", "started_at"]
    list_select_related = ["patient", "doctor", "created_by"]
    search_fields = ["patient__name", "patient__identifier", "doctor__name", "role"]
    search_help_text = "Patient, patient's identifier, doctor or role."
    autocomplete_fields = ["patient", "doctor"]
    fields = ["patient", "doctor", "role", "is_primary", "reason", "started_at"]

    def describe(self, record: Mapping) -> str:
        return f"{record.patient} – {record.doctor}"

    def owner_id(self, request: HttpRequest, record: Mapping) -> int:
        return record.patient.created_by_id

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        chosen = ["patient", "doctor"] if obj else []
        return [*super().get_readonly_fields(request, obj), *chosen]

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name in self.autocomplete_fields:
            kwargs["queryset"] = db_field.related_model.objects.active()
        return super().formfield_for_foreignkey(db_field, request, **kwargs)
