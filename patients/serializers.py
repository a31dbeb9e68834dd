"""A patient in JSON. `age` is stated or derived; the birth is stored: see `birth`."""

import datetime
from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from healthcare.api.fields import WholeNumberField
from healthcare.api.schema import example
from healthcare.api.serializers import RecordSerializer
from healthcare.coverage import covered_by_fast_path
from healthcare.model_fields import LARGEST_ID
from patients.birth import MAXIMUM_AGE, Birth, resolve_birth_year, validate_birth_date, validate_birth_year
from patients.duplicates import LikelyDuplicate
from patients.models import Gender, Patient, gender_code

EXAMPLE_PATIENT = {
    "id": 1, "name": "John Smith", "age": 34, "gender": "M", "birth_date": None, "birth_year": 1992, "deceased": False,
    "identifier": "", "phone": "", "email": "", "address": "Bengaluru", "version": 1, "created_by": 1,
    "created_at": "2026-11-22T09:30:00Z", "updated_at": "2026-11-22T09:30:00Z",
}  # fmt: skip


@covered_by_fast_path
class GenderField(serializers.ChoiceField):
    """M, F, O or U. FHIR's words male, female, other and unknown are accepted too, in any case."""

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(gender_code(data) if isinstance(data, str) else data)


@extend_schema_serializer(
    examples=example(
        request={"name": "John Smith", "age": 34, "gender": "M", "address": "Bengaluru"},
        response=EXAMPLE_PATIENT,
    )
)
class PatientSerializer(RecordSerializer):
    """A patient. Only the name is required; unknown fields stay empty."""

    gender = GenderField(choices=Gender.choices, required=False)
    age = WholeNumberField(
        min_value=0,
        max_value=MAXIMUM_AGE,
        allow_null=True,
        required=False,
        help_text="Whole years today. Stated without a birth date it gives the birth year.",
    )

    class Meta:
        model = Patient
        fields = [
            "id", "name", "age", "gender", "birth_date", "birth_year", "deceased", "identifier", "phone", "email",
            "address", "version", "created_by", "created_at", "updated_at",
        ]  # fmt: skip
        read_only_fields = ["version", "created_by"]

    def validate_birth_date(self, date: datetime.date | None) -> datetime.date | None:
        validate_birth_date(date)
        return date

    def validate_birth_year(self, year: int | None) -> int | None:
        validate_birth_year(year)
        return year

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Turn a stated age into a birth year, and refuse an age, a year and a date that contradict each other."""
        stated: dict[str, Any] = {
            name: value for name, value in attrs.items() if name in {"age", "birth_date", "birth_year"}
        }
        if not stated:
            return attrs
        attrs.pop("age", None)
        return attrs | {"birth_year": resolve_birth_year(stated, self.stored_birth)}

    def stored_birth(self) -> Birth:
        patient: Any = self.instance
        return Birth() if patient is None else Birth(patient.birth_date, patient.birth_year)


@extend_schema_serializer(examples=example(response=EXAMPLE_PATIENT | {"agrees_on": ["name", "birth_year", "gender"]}))
class DuplicateSerializer(PatientSerializer):
    """A patient who is likely the same person, with the fields on which the two agree."""

    agrees_on = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta(PatientSerializer.Meta):
        fields = [*PatientSerializer.Meta.fields, "agrees_on"]

    def to_representation(self, instance: LikelyDuplicate) -> dict[str, Any]:
        instance.patient.agrees_on = instance.agrees_on  # type: ignore[attr-defined]
        return super().to_representation(instance.patient)


@extend_schema_serializer(examples=example(request={"duplicate": 2}))
class MergeSerializer(serializers.Serializer):
    """The other record of the same person."""

    duplicate = WholeNumberField(min_value=1, max_value=LARGEST_ID, help_text="The id of a patient of yours.")
