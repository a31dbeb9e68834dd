"""Doctors (FHIR R4 Practitioner): a public directory."""

import datetime
from typing import Any

from django.conf import settings
from django.contrib.postgres.indexes import OpClass
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Upper
from django.db.models.lookups import LessThanOrEqual
from django.utils import timezone

from audit.history import Event, track_history
from healthcare.fastpath.triggers import TableVersionTrigger, TruncateVersionTrigger
from healthcare.model_fields import LARGEST_FHIR, EmailField, LineField, NameField, OctetLength, PhoneField
from healthcare.ownership import Record, RecordQuerySet, derived
from healthcare.search.index import searchable

MAXIMUM_EXPERIENCE = 100  # years
# The same as `experience_on`, as SQL over a doctor's columns; `{today}` stands for the day.
EXPERIENCE_SQL = """(CASE WHEN experience_since IS NOT NULL
    THEN greatest(0, date_part('year', {today}) - experience_since) END)::int"""


def experience_on(day: datetime.date, since: int | None) -> int | None:
    """Years of experience in the year of that day, never below 0."""
    return None if since is None else max(0, day.year - since)


class Doctor(Record):
    import_kind = "doctors"  # see `healthcare.imports`

    # Null after the erasure of the account that added the doctor.
    created_by = models.ForeignKey(  # type: ignore[assignment]
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", editable=False, db_index=False, null=True
    )
    name = NameField()
    specialization = LineField(max_length=200, blank=True)
    license_number = LineField(max_length=100, blank=True)
    phone = PhoneField(blank=True)
    email = EmailField(blank=True)
    hospital = LineField(max_length=200, blank=True)
    # A number of years goes stale, so the year in which they began is stored.
    experience_since = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1850), MaxValueValidator(9999)]
    )
    # What FHIR clients sent and no other column holds, as JSON: see `fhir.elements`. Exports have it.
    fhir = models.TextField("kept FHIR elements", blank=True, default="", db_default="", editable=False)
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = RecordQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        permissions = [("restore_doctor", "Can restore doctor"), ("export_doctor", "Can export doctor")]
        indexes = [
            models.Index(fields=["-id"], condition=Q(deleted_at=None), name="doctor_list"),
            models.Index(fields=["-id"], condition=Q(deleted_at__isnull=False), name="doctor_list_deleted"),
            models.Index(fields=["name", "id"], condition=Q(deleted_at=None), name="doctor_by_name"),
            models.Index(fields=["created_at", "id"], condition=Q(deleted_at=None), name="doctor_by_start"),
            models.Index(fields=["updated_at", "id"], condition=Q(deleted_at=None), name="doctor_by_change"),
            # The lists of the admin.
            models.Index(fields=["created_by", "-id"], name="doctor_of_owner"),
            *(
                models.Index(OpClass(Upper(column), "text_pattern_ops"), name=f"doctor_prefix_{column}")
                for column in ("specialization", "hospital")
            ),
            models.Index(
                fields=["created_at", "id"], condition=Q(deleted_at__isnull=False), name="doctor_by_start_deleted"
            ),
            *(
                models.Index(Upper(column), F("id").desc(), condition=Q(deleted_at=None), name=f"doctor_by_{name}")
                for column, name in (
                    ("specialization", "speciality"),
                    ("hospital", "hospital"),
                    ("license_number", "license"),
                )
            ),
        ]
        constraints = [
            models.CheckConstraint(condition=~Q(name=""), name="doctor_name_given"),
            models.CheckConstraint(
                condition=LessThanOrEqual(OctetLength("fhir"), LARGEST_FHIR), name="doctor_fhir_size"
            ),
        ]
        triggers = [TableVersionTrigger(), TruncateVersionTrigger()]

    def __str__(self) -> str:
        return self.name

    @derived(EXPERIENCE_SQL)
    def experience_years(self) -> int | None:
        """Whole years this year."""
        return experience_on(timezone.localdate(), self.experience_since)


class PastDoctor(Event):
    """The base of DoctorEvent: a doctor as of a time in the past."""

    as_of: datetime.datetime
    experience_since: int | None

    class Meta:
        abstract = True

    @property
    def experience_years(self) -> int | None:
        """Whole years in the year of `as_of`."""
        return experience_on(timezone.localdate(self.as_of), self.experience_since)


DOCTOR_SEARCH = searchable(Doctor, name="name", identifier="license_number", phone="phone", email="email")
DoctorEvent: Any = track_history(Doctor, PastDoctor)
