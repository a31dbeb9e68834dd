"""Ending assignments in the admin, and reopening ended ones."""

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest

from doctors.models import Doctor
from healthcare.admin.actions import Refusals
from healthcare.admin.record_actions import DeleteRecords, EndOnce, RestoreRecords
from mappings.models import Mapping
from patients.models import Patient


class EndAssignments(EndOnce):
    name = permission = "end"
    end_column, already = "ended_at", "has already ended"
    label = "End selected assignments"
    verb, done = "end", "ended"
    explanation = "The doctor no longer treats the patient from now on. The assignment stays on record as a past one."
    undone_by = "restore"

    def perform(self, model_admin: Any, request: HttpRequest, records: Sequence[Mapping]) -> str:
        Mapping.objects.filter(pk__in=[record.pk for record in records]).end()
        return ""


class DeleteAssignments(DeleteRecords):
    explanation = "Deleting an assignment ends it. It stays on record as a past one."


class RestoreAssignments(RestoreRecords):
    """Reopens ended assignments. The API has no such call: it creates a new assignment instead."""

    explanation = "The doctor treats the patient again, as if the assignment had not ended."
    undone_by = "end"

    def lock(self, model_admin: Any, request: HttpRequest, ids: Sequence[int]) -> list[Mapping]:
        """Lock the patients and the doctors first, in the API's order, so that none is deleted before an assignment is
        active again."""
        found = list(Mapping.objects.filter(pk__in=ids).values_list("patient", "doctor"))
        for model, keys in ((Patient, {patient for patient, _ in found}), (Doctor, {doctor for _, doctor in found})):
            list(model.objects.filter(pk__in=keys).order_by("pk").locked().values_list("pk"))
        return [*super().lock(model_admin, request, ids)]

    def refusals(self, model_admin: Any, request: HttpRequest, records: Sequence[Mapping]) -> Refusals:
        active = Mapping.objects.active().filter(patient__in={record.patient_id for record in records})
        assigned, with_primary = set(), set()
        for patient, doctor, is_primary in active.values_list("patient", "doctor", "is_primary"):
            assigned.add((patient, doctor))
            with_primary |= {patient} if is_primary else set()
        refused = super().refusals(model_admin, request, records)
        for record in records:
            if record.pk in refused:
                continue
            if reason := find_conflict(record, assigned, with_primary):
                refused[record.pk] = reason
            else:  # it counts for the next ones
                assigned.add((record.patient_id, record.doctor_id))
                with_primary |= {record.patient_id} if record.is_primary else set()
        return refused


def find_conflict(mapping: Mapping, assigned: set[tuple[int, int]], with_primary: set[int]) -> str:
    """Why the ended assignment cannot be active; empty if it can.

    assigned: the patient and the doctor of each active assignment. with_primary: the patients with a primary doctor.
    """
    if mapping.patient.deleted_at:
        return "belongs to a deleted patient; restore the patient first"
    if mapping.doctor.deleted_at:
        return "belongs to a deleted doctor; restore the doctor first"
    if (mapping.patient_id, mapping.doctor_id) in assigned:
        return "has the same doctor as another active assignment of the patient"
    if mapping.is_primary and mapping.patient_id in with_primary:
        return "is of a primary doctor, and the patient has another one by now; change that one first"
    return ""
