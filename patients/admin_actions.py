"""Restoring patients, and releasing legal holds, in the admin."""

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest
from django.utils import timezone

from audit.models import LegalHold
from healthcare.admin.actions import Refusals
from healthcare.admin.record_actions import EndOnce, RestoreRecords
from patients.models import Patient


class RestorePatients(RestoreRecords):
    explanation = (
        "The API shows them again, as they were when they were deleted. Their assignments to doctors who were deleted "
        "meanwhile end."
    )

    def is_offered_for(self, record: Patient) -> bool:
        return super().is_offered_for(record) and record.merged_into_id is None

    def refusals(self, model_admin: Any, request: HttpRequest, records: Sequence[Patient]) -> Refusals:
        merged = {
            record.pk: f"was merged into patient {record.merged_into_id}; undo the merge instead"
            for record in records
            if record.merged_into_id
        }
        return super().refusals(model_admin, request, records) | merged


class ReleaseHolds(EndOnce):
    name = "release"
    end_column, already = "released_at", "has already been released"
    permission = "change"
    label = "Release selected legal holds"
    verb, done = "release", "released"
    explanation = (
        "The patients can be deleted, merged and erased again. To hold one of them again, add another legal hold."
    )

    def perform(self, model_admin: Any, request: HttpRequest, records: Sequence[LegalHold]) -> str:
        holds = LegalHold.objects.active().filter(pk__in=[hold.pk for hold in records])
        holds.update(released_at=timezone.now(), released_username=request.user.get_username())
        return ""
