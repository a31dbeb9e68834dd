"""Mappings: which doctor treats which patient (FHIR R4 CareTeam.participant). A mapping ends and is never deleted."""

import datetime
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q
from django.db.models.expressions import Combinable
from django.db.models.functions import Greatest, Now
from django.utils import timezone

from audit.history import OwnedEvent, track_history
from healthcare.model_fields import LineField, MultilineField
from healthcare.ownership import OwnedModel
from mappings import triggers  # noqa: F401  (declares them)
from patients.models import Patient
from patients.related_rows import MovedRows, PatientRelatedQuerySet

CLOCK_SKEW = datetime.timedelta(seconds=60)  # by which the clock of a client or of another server may be ahead
EARLIEST = datetime.datetime(1850, 1, 1, tzinfo=datetime.UTC)


def validate_time_of_care(moment: datetime.datetime) -> None:
    """Raises ValidationError for a time more than CLOCK_SKEW ahead, since a time within it counts as reached, and for
    one before EARLIEST: Python cannot represent the first hours of the year 1 in every time zone."""
    if moment > timezone.now() + CLOCK_SKEW:
        raise ValidationError("Write a time that is not in the future.", "invalid")
    if moment < EARLIEST:
        raise ValidationError(f"Write a time that is not before {EARLIEST.year}.", "invalid")


class MappingQuerySet(PatientRelatedQuerySet):
    ended_column = "ended_at"

    def of_active_patients(self) -> Self:
        """The mappings of patients who are not deleted."""
        return self.filter(patient__deleted_at__isnull=True)

    def end(self, at: Combinable | None = None) -> int:
        # Never before `started_at`: the clock that set it may be ahead of the database's.
        return super().end(at or Greatest(F("started_at"), Now()))

    def move_to_survivor(self, field: str, duplicate: Patient, survivor: Patient) -> MovedRows:
        """Where both patients have an active assignment of the same doctor, end the duplicate's. Where both have a
        primary doctor, only the survivor's stays primary."""
        rows = list(self.filter(patient__in=[duplicate, survivor]).order_by("pk").locked())
        of_duplicate, ending, secondary = split_for_merge(rows, duplicate, survivor)
        moved: MovedRows = {str(row.pk): {} for row in of_duplicate}
        for row in ending:
            row.ended_at = max(timezone.now(), row.started_at)
            moved[str(row.pk)]["ended_at"] = row.ended_at.isoformat()
        for row in secondary:
            row.is_primary = moved[str(row.pk)]["is_primary"] = False
        self.reassign(of_duplicate, field, survivor, "ended_at", "is_primary")
        return moved

    def describe_move(self, field: str, duplicate: Patient, survivor: Patient) -> list[str]:
        rows = list(self.filter(patient__in=[duplicate, survivor]))
        of_duplicate, ending, secondary = split_for_merge(rows, duplicate, survivor)
        sentences = [f"Assignments that move to patient {survivor.pk}: {len(of_duplicate)}."]
        if ending:
            sentences.append(f"Of these, {len(ending)} ends: both patients have that doctor at present.")
        if secondary:
            sentences.append(f"Patient {survivor.pk} keeps the primary doctor; the other one stays, as not primary.")
        return sentences

    def move_back(self, field: str, duplicate: Patient, survivor: Patient, moved: MovedRows) -> None:
        """Reopen what the merge ended and make primary what it made secondary, unless either was changed since."""
        rows: list[Any] = list(self.filter(patient=survivor, pk__in=moved).order_by("pk").locked())
        rows.sort(key=lambda row: row.ended_at is not None or not row.is_primary)  # the primary one of now first
        has_primary = False
        for row in rows:
            changed = moved[str(row.pk)]
            if row.ended_at and row.ended_at.isoformat() == changed.get("ended_at"):
                row.ended_at = None
            row.is_primary |= "is_primary" in changed
            if row.ended_at is None:
                row.is_primary = row.is_primary and not has_primary
                has_primary = has_primary or row.is_primary
        self.reassign(rows, field, duplicate, "ended_at", "is_primary")


def split_for_merge(
    rows: Sequence[Any], duplicate: Patient, survivor: Patient
) -> tuple[list[Any], list[Any], list[Any]]:
    """The duplicate's rows; those of them that end, since the survivor has the doctor already; and those that are no
    longer primary, since the survivor has a primary doctor."""
    of_duplicate = [row for row in rows if row.patient_id == duplicate.pk]
    active_of_survivor = [row for row in rows if row.patient_id == survivor.pk and row.ended_at is None]
    doctors = {row.doctor_id for row in active_of_survivor}
    has_primary = any(row.is_primary for row in active_of_survivor)
    active = [row for row in of_duplicate if row.ended_at is None]
    ending = [row for row in active if row.doctor_id in doctors]
    secondary = [row for row in active if row.is_primary and has_primary and row.doctor_id not in doctors]
    return of_duplicate, ending, secondary


class Mapping(OwnedModel):
    import_kind = "mappings"  # see `healthcare.imports`

    patient = models.ForeignKey("patients.Patient", on_delete=models.PROTECT, related_name="mappings", db_index=False)
    doctor = models.ForeignKey("doctors.Doctor", on_delete=models.PROTECT, related_name="mappings", db_index=False)
    role = LineField(max_length=100, blank=True, help_text="What the doctor does for this patient.")
    is_primary = models.BooleanField(default=False)
    reason = LineField(max_length=500, blank=True)
    notes = MultilineField(blank=True)
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[models.Manager] = MappingQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = "assignment"  # the word of staff; the API says mapping
        permissions = [
            ("end_mapping", "Can end mapping"),
            ("restore_mapping", "Can restore mapping"),
            ("export_mapping", "Can export mapping"),
        ]
        indexes = [
            models.Index(fields=["created_by", "-id"], condition=Q(ended_at=None), name="mapping_list"),
            models.Index(fields=["created_by", "started_at", "id"], name="mapping_by_start"),
            models.Index(fields=["created_by", "updated_at", "id"], name="mapping_by_change"),
            models.Index(fields=["created_by", "-id"], condition=Q(ended_at__isnull=False), name="mapping_list_ended"),
            # The lists of the admin, which show the assignments of all owners.
            models.Index(fields=["created_at", "id"], name="mapping_by_creation"),
            # `version` is always above 0. The API does not say so, which keeps its lists of one owner off this index.
            models.Index(fields=["-id"], condition=Q(ended_at__isnull=False, version__gt=0), name="mapping_ended"),
            models.Index(fields=["doctor", "-id"], name="mapping_list_of_doctor"),
            models.Index(fields=["patient", "-id"], name="mapping_of_patient"),
            models.Index(fields=["doctor", "created_by", "-id"], name="mapping_of_doctor"),
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


MappingEvent: Any = track_history(Mapping, OwnedEvent, listed_by=["patient"])
