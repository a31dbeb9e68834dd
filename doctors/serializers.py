"""A doctor in JSON, the same for every caller."""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_serializer

from doctors.models import MAXIMUM_EXPERIENCE, Doctor
from healthcare.api.fields import WholeNumberField
from healthcare.api.schema import example
from healthcare.api.serializers import RecordSerializer

EXAMPLE_DOCTOR = {
    "id": 1, "name": "Dr. Meera Rao", "specialization": "Cardiology", "license_number": "", "phone": "", "email": "",
    "hospital": "City Hospital", "experience_years": None, "version": 1, "created_at": "2026-11-22T09:30:00Z",
    "updated_at": "2026-11-22T09:30:00Z",
}  # fmt: skip


@extend_schema_serializer(
    examples=example(
        request={"name": "Dr. Meera Rao", "specialization": "Cardiology", "hospital": "City Hospital"},
        response=EXAMPLE_DOCTOR,
    )
)
class DoctorSerializer(RecordSerializer):
    """A doctor. Only the name is required; unknown fields stay empty."""

    experience_years = WholeNumberField(
        min_value=0,
        max_value=MAXIMUM_EXPERIENCE,
        allow_null=True,
        required=False,
        help_text="Whole years this year: the number that was sent, and one more with every year since.",
    )

    class Meta:
        model = Doctor
        fields = [
            "id", "name", "specialization", "license_number", "phone", "email", "hospital", "experience_years",
            "version", "created_at", "updated_at",
        ]  # fmt: skip
        read_only_fields = ["version"]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Turn the years of experience into the year in which they began."""
        if "experience_years" in attrs:
            years = attrs.pop("experience_years")
            attrs["experience_since"] = None if years is None else timezone.localdate().year - years
        return attrs
