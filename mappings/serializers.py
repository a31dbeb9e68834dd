"""A mapping (an assignment of a doctor to a patient) in JSON, and a mapping's doctor and patient."""

import datetime
from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from doctors.models import Doctor
from doctors.serializers import EXAMPLE_DOCTOR, DoctorSerializer
from healthcare.api.fields import WholeNumberField
from healthcare.api.schema import example
from healthcare.api.serializers import IdField, RecordSerializer
from healthcare.model_fields import LARGEST_ID
from healthcare.ownership import RecordQuerySet
from mappings.models import Mapping, validate_time_of_care
from patients.models import Patient
from patients.serializers import EXAMPLE_PATIENT, PatientSerializer


@extend_schema_serializer(
    component_name="Assignment",  # `Mapping` is a type of Python's and of other languages' libraries
    examples=example(
        request={"patient": 1, "doctor": 1, "role": "cardiologist", "is_primary": True},
        response={
            "id": 1, "patient": 1, "doctor": 1, "role": "cardiologist", "is_primary": True, "reason": "",
            "notes": "", "started_at": "2026-11-22T09:30:00Z", "ended_at": None, "version": 1, "created_by": 1,
            "created_at": "2026-11-22T09:30:00Z", "updated_at": "2026-11-22T09:30:00Z",
        },
    ),
)  # fmt: skip
class MappingSerializer(RecordSerializer):
    """An assignment: this doctor treats this patient of yours, from `started_at` on; the default is now. With an
    `ended_at` it is a past one."""

    # Row locks, the patient before the doctor, so that neither can be deleted before the assignment is inserted.
    patient: serializers.Field = IdField(scope=lambda owner: Patient.objects.owned_by(owner).active().locked())
    doctor: serializers.Field = IdField(scope=lambda owner: Doctor.objects.active().locked())

    class Meta:
        model = Mapping
        fields = [
            "id", "patient", "doctor", "role", "is_primary", "reason", "notes", "started_at", "ended_at",
            "version", "created_by", "created_at", "updated_at",
        ]  # fmt: skip
        read_only_fields = ["version", "created_by"]

    def validate_started_at(self, moment: datetime.datetime) -> datetime.datetime:
        if moment != getattr(self.instance, "started_at", None):
            validate_time_of_care(moment)
        return moment

    def validate_ended_at(self, moment: datetime.datetime | None) -> datetime.datetime | None:
        ended = getattr(self.instance, "ended_at", None)
        if ended and moment is None:
            raise serializers.ValidationError("An assignment that has ended cannot be reopened; create a new one.")
        if moment and moment != ended:
            validate_time_of_care(moment)
        return moment

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """An end that equals the start but for its microseconds, which JavaScript cuts off, is the start."""
        end, start = attrs.get("ended_at"), attrs.get("started_at", self.instance and self.instance.started_at)
        if end and start and end == start.replace(microsecond=start.microsecond // 1000 * 1000):
            attrs["ended_at"] = start
        return attrs


@extend_schema_serializer(
    component_name="AssignmentChange",
    examples=example(request={"role": "surgeon", "ended_at": "2026-11-29T16:00:00Z"}),
)
class MappingChangeSerializer(MappingSerializer):
    """A change of an assignment. Its patient and doctor cannot change, and an end cannot be taken back: create a new
    assignment instead."""

    patient = WholeNumberField(
        source="patient_id", min_value=1, max_value=LARGEST_ID, help_text="May be sent, and must be unchanged."
    )
    doctor = WholeNumberField(
        source="doctor_id", min_value=1, max_value=LARGEST_ID, help_text="May be sent, and must be unchanged."
    )

    def validate_patient(self, patient: int) -> int:
        return self.check_unchanged("patient_id", patient)

    def validate_doctor(self, doctor: int) -> int:
        return self.check_unchanged("doctor_id", doctor)

    def check_unchanged(self, column: str, value: int) -> int:
        if value != getattr(self.instance, column):
            raise serializers.ValidationError("This cannot be changed; end the assignment and create another one.")
        return value

    def changeable(self, rows: RecordQuerySet) -> RecordQuerySet:
        return rows  # a past assignment can be corrected too


@extend_schema_serializer(examples=example(response=EXAMPLE_DOCTOR | {"mapping": 1}))
class PatientDoctorSerializer(DoctorSerializer):
    """The doctor of an assignment. `mapping` is the id that `PATCH` and `DELETE /api/mappings/<id>/` take."""

    mapping = serializers.IntegerField(read_only=True, max_value=LARGEST_ID)

    class Meta(DoctorSerializer.Meta):
        fields = [*DoctorSerializer.Meta.fields, "mapping"]


@extend_schema_serializer(examples=example(response=EXAMPLE_PATIENT | {"mapping": 1}))
class DoctorPatientSerializer(PatientSerializer):
    """The patient of an assignment. `mapping` is the id that `PATCH` and `DELETE /api/mappings/<id>/` take."""

    mapping = serializers.IntegerField(read_only=True, max_value=LARGEST_ID)

    class Meta(PatientSerializer.Meta):
        fields = [*PatientSerializer.Meta.fields, "mapping"]
