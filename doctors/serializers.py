"""A doctor in JSON, as everybody sees it."""

from doctors.models import Doctor
from healthcare.api.serializers import RecordSerializer


class DoctorSerializer(RecordSerializer):
    class Meta:
        model = Doctor
        fields = [
            "id", "name", "specialization", "license_number", "phone", "email", "hospital", "experience_years",
            "version", "created_at", "updated_at",
        ]  # fmt: skip
        read_only_fields = ["version"]
