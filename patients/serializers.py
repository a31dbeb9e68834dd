"""A patient in JSON. `age` is stated or derived: what is kept is the birth."""

import datetime
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from healthcare.api.fields import WholeNumberField
from healthcare.api.schema import example
from healthcare.api.serializers import RecordSerializer
from patients.duplicates import Twin
from patients.models import OLDEST, Gender, Patient, age_on, gender_code


class GenderField(serializers.ChoiceField):
    """M, F, O or U; takes FHIR's words male, female, other and unknown too, in any case."""

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(gender_code(data) if isinstance(data, str) else data)


@extend_schema_serializer(
    examples=example(
        request={"name": "John Smith", "age": 34, "gender": "M", "address": "Bengaluru"},
        response={
            "id": 1, "name": "John Smith", "age": 34, "gender": "M", "birth_date": None, "birth_year": 1992,
            "deceased": False, "identifier": "", "phone": "", "email": "", "address": "Bengaluru", "version": 1,
            "created_by": 1, "created_at": "2026-11-22T09:30:00Z", "updated_at": "2026-11-22T09:30:00Z",
        },
    )
)  # fmt: skip
class PatientSerializer(RecordSerializer):
    """A patient. Only the name is required; what is not known stays empty."""

    gender = GenderField(choices=Gender.choices, required=False)
    age = WholeNumberField(
        min_value=0,
        max_value=OLDEST,
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

    def validate_birth_date(self, day: datetime.date | None) -> datetime.date | None:
        today = timezone.localdate()
        if day and not datetime.date(today.year - OLDEST, 1, 1) <= day <= today:
            raise serializers.ValidationError(f"Enter a day of the last {OLDEST} years.")
        return day

    def validate_birth_year(self, year: int | None) -> int | None:
        today = timezone.localdate()
        if year is not None and not today.year - OLDEST <= year <= today.year:
            raise serializers.ValidationError(f"Enter a year of the last {OLDEST} years.")
        return year

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Turn a stated age into a birth year, and refuse an age, a year and a date that contradict each other."""
        stated = attrs.keys() & {"age", "birth_date", "birth_year"}
        if not stated:
            return attrs
        today, age = timezone.localdate(), attrs.pop("age", None)
        kept_date, kept_year = getattr(self.instance, "birth_date", None), getattr(self.instance, "birth_year", None)
        date = attrs.get("birth_date", kept_date)
        if date:
            year = date.year
        elif "birth_year" in stated:
            year = attrs["birth_year"]
        elif "age" in stated:
            year = None if age is None else today.year - age
        else:  # with the date its year is taken back too
            year = None if kept_date else kept_year
        if attrs.get("birth_year", year) != year:
            raise contradiction("birth_year")
        if "age" in stated and age != age_on(today, date, year):
            raise contradiction("age")
        return attrs | {"birth_year": year}


@extend_schema_serializer(
    examples=example(
        response={
            "id": 1, "name": "John Smith", "age": 34, "gender": "M", "birth_date": None, "birth_year": 1992,
            "deceased": False, "identifier": "", "phone": "", "email": "", "address": "Bengaluru", "version": 1,
            "created_by": 1, "created_at": "2026-11-22T09:30:00Z", "updated_at": "2026-11-22T09:30:00Z",
            "agrees_on": ["name", "birth_year", "gender"],
        },
    )
)  # fmt: skip
class DuplicateSerializer(PatientSerializer):
    """A patient who is likely the same person, and the fields that say so."""

    agrees_on = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta(PatientSerializer.Meta):
        fields = [*PatientSerializer.Meta.fields, "agrees_on"]

    def to_representation(self, instance: Twin) -> dict[str, Any]:
        instance.patient.agrees_on = instance.agrees_on  # type: ignore[attr-defined]
        return super().to_representation(instance.patient)


@extend_schema_serializer(examples=example(request={"duplicate": 2}))
class MergeSerializer(serializers.Serializer):
    """The other record of the same person."""

    duplicate = WholeNumberField(min_value=1, max_value=2**63 - 1, help_text="The id of a patient of yours.")


def contradiction(field: str) -> serializers.ValidationError:
    message = "This contradicts the date or the year of birth."
    return serializers.ValidationError({field: [serializers.ErrorDetail(message, "contradiction")]})
