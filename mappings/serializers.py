"""An assignment in JSON, and a doctor as one of a patient's."""

from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from doctors.models import Doctor
from doctors.serializers import DoctorSerializer
from healthcare.api.schema import example
from healthcare.api.serializers import IdField, RecordSerializer
from mappings.models import Mapping
from patients.models import Patient


@extend_schema_serializer(
    examples=example(
        request={"patient": 1, "doctor": 1},
        response={
            "id": 1, "patient": 1, "doctor": 1, "role": "", "is_primary": False, "reason": "",
            "started_at": "2026-11-22T09:30:00Z", "ended_at": None, "version": 1, "created_by": 1,
            "created_at": "2026-11-22T09:30:00Z", "updated_at": "2026-11-22T09:30:00Z",
        },
    )
)  # fmt: skip
class MappingSerializer(RecordSerializer):
    """An assignment: this doctor treats this patient of yours."""

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


@extend_schema_serializer(
    examples=example(
        response={
            "id": 1, "name": "Dr. Meera Rao", "specialization": "Cardiology", "license_number": "", "phone": "",
            "email": "", "hospital": "City Hospital", "experience_years": None, "version": 1,
            "created_at": "2026-11-22T09:30:00Z", "updated_at": "2026-11-22T09:30:00Z", "mapping": 1,
        },
    )
)  # fmt: skip
class PatientDoctorSerializer(DoctorSerializer):
    """The doctor of an assignment, with the `mapping` id that `DELETE /api/mappings/<id>/` takes."""

    mapping = serializers.IntegerField(read_only=True, max_value=2**63 - 1)

    class Meta(DoctorSerializer.Meta):
        fields = [*DoctorSerializer.Meta.fields, "mapping"]

    def to_representation(self, instance: Mapping) -> dict[str, Any]:
        instance.doctor.mapping = instance.id  # type: ignore[attr-defined]
        return super().to_representation(instance.doctor)
