"""The forms of assignments in the admin."""

import datetime
from typing import Any

from healthcare.admin.edit_conflicts import ConflictCheckingForm
from mappings.models import Mapping, validate_time_of_care

ALREADY_ASSIGNED, HAS_PRIMARY = (
    next(str(one.get_violation_error_message()) for one in Mapping._meta.constraints if one.name == name)
    for name in ("mapping_once", "mapping_one_primary")
)


class AssignmentForm(ConflictCheckingForm):
    class Meta:
        labels = {"is_primary": "Primary doctor", "started_at": "Started"}
        help_texts = {
            "patient": "Type a part of the name, a number or a phone of the patient.",
            "doctor": "Type a part of the name or the specialization of the doctor.",
            "role": "What the doctor does for this patient, such as surgeon.",
            "is_primary": "A patient has at most one primary doctor.",
            "reason": "Why the doctor was assigned.",
            "started_at": "When the doctor began to treat the patient, in local time, not in the future.",
        }

    def clean_started_at(self) -> datetime.datetime:
        moment: datetime.datetime = self.cleaned_data["started_at"]
        if moment != self.instance.started_at or not self.instance.pk:
            validate_time_of_care(moment)
        return moment

    def lock_chosen(self, cleaned: dict[str, Any], *names: str) -> None:
        """Lock these records, so that none can be deleted before the mapping is inserted."""
        for name in names:
            record = cleaned.get(name)
            if record and type(record).objects.active().locked().filter(pk=record.pk).first() is None:
                self.add_error(name, "This record has just been deleted.")


class MappingForm(AssignmentForm):
    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if not self.instance.pk:
            self.lock_chosen(cleaned, "patient", "doctor")  # in the API's order
        return cleaned


class NewAssignmentForm(AssignmentForm):
    """On the form of the patient, whose row is locked, so that nobody else assigns a doctor meanwhile."""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        self.lock_chosen(cleaned, "doctor")
        active = Mapping.objects.active().filter(patient=self.instance.patient_id)
        if cleaned.get("doctor") and active.filter(doctor=cleaned["doctor"]).exists():
            self.add_error("doctor", ALREADY_ASSIGNED)
        if cleaned.get("is_primary") and active.filter(is_primary=True).exists():
            self.add_error("is_primary", HAS_PRIMARY)
        return cleaned
