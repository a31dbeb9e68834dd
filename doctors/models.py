"""Doctors (FHIR R4 Practitioner): a public directory."""

from typing import Any

from django.conf import settings
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Upper

from audit.history import remember
from healthcare.fastpath.triggers import TableVersionTrigger, TruncateVersionTrigger
from healthcare.model_fields import EmailField, LineField, NameField, PhoneField
from healthcare.ownership import Record, RecordQuerySet
from healthcare.search.index import searchable


class Doctor(Record):
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
    experience_years = models.PositiveSmallIntegerField(null=True, blank=True, validators=[MaxValueValidator(100)])
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = RecordQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["-id"], condition=Q(deleted_at=None), name="doctor_list"),
            models.Index(fields=["-id"], condition=Q(deleted_at__isnull=False), name="doctor_list_deleted"),
            models.Index(fields=["name", "id"], condition=Q(deleted_at=None), name="doctor_by_name"),
            models.Index(fields=["created_at", "id"], condition=Q(deleted_at=None), name="doctor_by_start"),
            models.Index(fields=["updated_at", "id"], condition=Q(deleted_at=None), name="doctor_by_change"),
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
        ]
        triggers = [TableVersionTrigger(), TruncateVersionTrigger()]

    def __str__(self) -> str:
        return self.name


DOCTOR_SEARCH = searchable(Doctor, name="name", identifier="license_number", phone="phone", email="email")
DoctorEvent: Any = remember(Doctor)
