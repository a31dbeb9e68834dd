import datetime
from typing import Any

from rest_framework import serializers

from benchmarks.references.stock.models import Doctor, Patient


class PatientSerializer(serializers.ModelSerializer):
    age = serializers.IntegerField(min_value=0, max_value=150, required=False)

    class Meta:
        model = Patient
        fields = [
            "id", "name", "age", "gender", "birth_date", "birth_year", "deceased", "deceased_on", "identifier",
            "identifiers", "phone", "alternate_phone", "email", "address", "language", "contacts", "medical_history",
            "version", "created_by", "created_at", "updated_at",
        ]  # fmt: skip
        read_only_fields = ["version", "created_by"]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "age" in attrs:
            attrs["birth_year"] = datetime.date.today().year - attrs.pop("age")
        return attrs


class DoctorSerializer(serializers.ModelSerializer):
    class Meta:
        model = Doctor
        fields = [
            "id", "name", "specialization", "license_number", "phone", "email", "hospital", "experience_years",
            "version", "created_at", "updated_at",
        ]  # fmt: skip
        read_only_fields = ["version"]


class PatientDoctorSerializer(DoctorSerializer):
    mapping = serializers.IntegerField()

    class Meta(DoctorSerializer.Meta):
        fields = [*DoctorSerializer.Meta.fields, "mapping"]
