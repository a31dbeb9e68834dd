"""Mappings: who treats whom, FHIR R4 CareTeam.participant. An assignment ends, it is never removed."""

from typing import Any, ClassVar, Self

from django.db import models
from django.db.models import F, Q
from django.db.models.expressions import Combinable
from django.db.models.functions import Greatest, Now
from django.utils import timezone

from audit.history import remember
from healthcare.ownership import OwnedModel, OwnedQuerySet


class MappingQuerySet(OwnedQuerySet):
    ended_column = "ended_at"

    def current(self) -> Self:
        """Active assignments of patients who are not deleted."""
        return self.active().filter(patient__deleted_at__isnull=True)

    def end(self, at: Combinable | None = None) -> int:
        # Another machine's clock may have started it a little later than this one's now.
        return super().end(at or Greatest(F("started_at"), Now()))


class Mapping(OwnedModel):
    patient = models.ForeignKey("patients.Patient", on_delete=models.PROTECT, related_name="mappings", db_index=False)
    doctor = models.ForeignKey("doctors.Doctor", on_delete=models.PROTECT, related_name="mappings")
    role = models.CharField(max_length=100, blank=True, help_text="What the doctor does for this patient.")
    is_primary = models.BooleanField(default=False)
    reason = models.CharField(max_length=500, blank=True)
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[models.Manager] = MappingQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["created_by", "-id"], condition=Q(ended_at=None), name="mapping_list"),
            models.Index(
                fields=["created_by", "started_at", "id"], condition=Q(ended_at=None), name="mapping_by_start"
            ),
            models.Index(
                fields=["created_by", "updated_at", "id"], condition=Q(ended_at=None), name="mapping_by_change"
            ),
            models.Index(fields=["patient", "-id"], name="mapping_of_patient"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["patient", "doctor"],
                condition=Q(ended_at=None),
                name="mapping_once",
                violation_error_message="This doctor is already assigned to this patient.",
            ),
            models.UniqueConstraint(
                fields=["patient", "is_primary"],
                condition=Q(ended_at=None, is_primary=True),
                name="mapping_one_primary",
                violation_error_message="This patient already has a primary doctor.",
            ),
            models.CheckConstraint(
                condition=Q(ended_at=None) | Q(ended_at__gte=F("started_at")),
                name="mapping_ends_after_start",
                violation_error_message="An assignment cannot end before it starts.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.patient_id} – {self.doctor_id}"


MappingEvent: Any = remember(Mapping, listed_by=["created_by", "patient"])
