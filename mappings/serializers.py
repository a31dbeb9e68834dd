"""An assignment in JSON, and a doctor as one of a patient's."""

from typing import Any

from rest_framework import serializers

from doctors.models import Doctor
from doctors.serializers import DoctorSerializer
from healthcare.api.serializers import IdField, RecordSerializer
from mappings.models import Mapping
from patients.models import Patient


class MappingSerializer(RecordSerializer):
    # Locked, patient before doctor, so that neither can be deleted before the assignment is there.
    patient = IdField(scope=lambda user: Patient.objects.owned_by(user).active().locked())
    doctor = IdField(scope=lambda user: Doctor.objects.active().locked())

    class Meta:
        model = Mapping
        fields = [
            "id", "patient", "doctor", "role", "is_primary", "reason", "started_at", "ended_at",
            "version", "created_by", "created_at", "updated_at",
        ]  # fmt: skip
        read_only_fields = ["started_at", "ended_at", "version", "created_by"]
        # The database decides what is a duplicate: a check before the insert would race.
        validators: list[Any] = []


class PatientDoctorSerializer(DoctorSerializer):
    """The doctor of an assignment, with the `mapping` id that `DELETE /api/mappings/<id>/` takes."""

    mapping = serializers.IntegerField(read_only=True)

    class Meta(DoctorSerializer.Meta):
        fields = [*DoctorSerializer.Meta.fields, "mapping"]

    def to_representation(self, instance: Mapping) -> dict[str, Any]:
        instance.doctor.mapping = instance.id  # type: ignore[attr-defined]
        return super().to_representation(instance.doctor)
