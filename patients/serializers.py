"""A patient in JSON. `age` is stated or derived; the birth is stored: see `birth`."""

import datetime
from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail
from rest_framework.fields import empty

from healthcare.api.fields import ObjectListField, ObjectSerializer, PhoneField, TextField, WholeNumberField
from healthcare.api.schema import example
from healthcare.api.serializers import RecordSerializer
from healthcare.coverage import covered_by_fast_path
from healthcare.model_fields import LARGEST_ID, one_line, one_visible_line
from healthcare.phones import validate_phone_number
from patients.birth import (
    LIFE_FIELDS,
    MAXIMUM_AGE,
    Life,
    resolve_life,
    validate_birth_date,
    validate_birth_year,
    validate_death_date,
)
from patients.duplicates import LikelyDuplicate
from patients.models import Gender, Patient, gender_code

EXAMPLE_PATIENT = {
    "id": 1, "name": "John Smith", "age": 34, "gender": "M", "birth_date": None, "birth_year": 1992, "deceased": None,
    "deceased_on": None, "identifier": "", "identifiers": [{"system": "https://uidai.gov.in", "value": "234567890124"}],
    "phone": "", "alternate_phone": "", "email": "", "address": "Bengaluru", "language": "kn",
    "contacts": [{"name": "Mary Smith", "relationship": "wife", "phone": "+91 80 5550 0100"}],
    "medical_history": "2019 asthma\n2024 fracture of the left wrist", "version": 1, "created_by": 1,
    "created_at": "2026-11-22T09:30:00Z", "updated_at": "2026-11-22T09:30:00Z",
}  # fmt: skip


@covered_by_fast_path
class GenderField(serializers.ChoiceField):
    """M, F, O or U. FHIR's words male, female, other and unknown are accepted too, in any case.

    The empty text, which a form sends where nothing is selected, is U.
    """

    def run_validation(self, data: Any = empty) -> Any:
        return super().run_validation(Gender.UNKNOWN.value if data == "" else data)

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(gender_code(data) if isinstance(data, str) else data)


class IdentifierSerializer(ObjectSerializer):
    """A number that somebody else gave this patient (FHIR R4 Identifier)."""

    system = TextField(
        max_length=200,
        validators=[one_visible_line],
        help_text="Who gave it: a URI, or a short text. `?identifier=system|value` finds it, so it contains no bar.",
    )
    value = TextField(max_length=200, validators=[one_visible_line])

    def validate_system(self, system: str) -> str:
        if "|" in system:
            raise serializers.ValidationError("Remove the bar; it separates system and value in `?identifier=`.")
        return system


class ContactSerializer(ObjectSerializer):
    """A person to turn to about this patient, such as the next of kin (FHIR R4 Patient.contact)."""

    name = TextField(max_length=200, validators=[one_visible_line])
    relationship = TextField(max_length=100, required=False, allow_blank=True, default="", validators=[one_line])
    phone = PhoneField(max_length=40, required=False, allow_blank=True, default="", validators=[validate_phone_number])


def each_once(identifiers: list[dict[str, str]]) -> None:
    """Refuse an identifier that repeats an earlier one."""
    repeated: Any = {
        number: [ErrorDetail("Remove this identifier; it repeats an earlier one.", "unique")]
        for number, identifier in enumerate(identifiers)
        if identifier in identifiers[:number]
    }
    if repeated:
        raise serializers.ValidationError(repeated)


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
        help_text="Whole years today, or at death; null for the dead without `deceased_on`. Stated without a birth "
        "date it gives the birth year.",
    )
    identifiers = ObjectListField(
        child=IdentifierSerializer(),
        maximum=20,
        required=False,
        validators=[each_once],
        help_text="The patient's numbers elsewhere, at most 20. A merge adds those of the duplicate, and the "
        'duplicate\'s own `identifier` with the system "old".',
    )
    contacts = ObjectListField(
        child=ContactSerializer(), maximum=10, required=False, help_text="The next of kin and others, at most 10."
    )

    class Meta:
        model = Patient
        fields = [
            "id", "name", "age", "gender", "birth_date", "birth_year", "deceased", "deceased_on", "identifier",
            "identifiers", "phone", "alternate_phone", "email", "address", "language", "contacts", "medical_history",
            "version", "created_by", "created_at", "updated_at",
        ]  # fmt: skip
        read_only_fields = ["version", "created_by"]

    def validate_birth_date(self, date: datetime.date | None) -> datetime.date | None:
        validate_birth_date(date)
        return date

    def validate_birth_year(self, year: int | None) -> int | None:
        validate_birth_year(year)
        return year

    def validate_deceased_on(self, date: datetime.date | None) -> datetime.date | None:
        validate_death_date(date)
        return date

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Turn a stated age into a birth year, and refuse what contradicts each other about birth, death and age."""
        stated: dict[str, Any] = {name: value for name, value in attrs.items() if name in LIFE_FIELDS | {"age"}}
        if not stated:
            return attrs
        attrs.pop("age", None)
        return attrs | resolve_life(stated, self.stored_life)

    def stored_life(self) -> Any:
        return Life() if self.instance is None else self.instance


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
