"""The form of a patient in the admin."""

import datetime
from typing import Any

from django.core.exceptions import ValidationError
from rest_framework import serializers

from healthcare.admin.edit_conflicts import ConflictCheckingForm
from healthcare.admin.object_lists import ObjectListFormField, TextMember
from healthcare.api.errors import flatten
from patients.birth import (
    LIFE_FIELDS,
    Life,
    resolve_life,
    validate_birth_date,
    validate_birth_year,
    validate_death_date,
)
from patients.serializers import PatientSerializer


class PatientForm(ConflictCheckingForm):
    """The year of birth follows the date of birth. A year that is changed too has to agree with it. Lists of objects
    hold what the API accepts."""

    identifiers = ObjectListFormField(
        members=[TextMember("system", "Given by", 200), TextMember("value", "Number", 200)],
        maximum=20,
        singular="number",
        label="Other numbers",
        help_text="The patient's numbers elsewhere: who gave each, such as passport or a web address, and the number.",
    )
    contacts = ObjectListFormField(
        members=[
            TextMember("name", "Name", 200),
            TextMember("relationship", "Relationship", 100),
            TextMember("phone", "Phone", 40, is_phone=True),
        ],
        maximum=10,
        singular="contact",
        label="Contacts",
        help_text="Whom to turn to about the patient, such as the next of kin.",
    )

    class Meta:
        labels = {
            "birth_date": "Date of birth",
            "birth_year": "Year of birth",
            "deceased_on": "Date of death",
            "identifier": "Own number",
            "alternate_phone": "Second phone",
            "email": "E-mail",
        }
        help_texts = {
            "name": "Write the whole name as the patient writes it, in any script.",
            "gender": "Choose unknown where it was not asked.",
            "birth_date": "Leave it empty if only the year is known.",
            "birth_year": "Follows the date of birth. Write it where only the year, or an age, is known.",
            "deceased": "A date of death sets it.",
            "identifier": "The number that this clinic gave the patient.",
            "phone": "Write it as it is dialled, an extension as x12.",
            "alternate_phone": "Another number to try.",
            "address": "One line or several.",
            "language": "The language to speak with the patient, as a tag such as hi, kn or pt-BR.",
            "medical_history": "What has to be known before a treatment, one matter a line.",
        }

    def clean_birth_date(self) -> datetime.date | None:
        date: datetime.date | None = self.cleaned_data["birth_date"]
        validate_birth_date(date)
        return date

    def clean_birth_year(self) -> int | None:
        year: int | None = self.cleaned_data["birth_year"]
        validate_birth_year(year)
        return year

    def clean_deceased_on(self) -> datetime.date | None:
        date: datetime.date | None = self.cleaned_data["deceased_on"]
        validate_death_date(date)
        return date

    def clean_identifiers(self) -> Any:
        return self.clean_as_api("identifiers")

    def clean_contacts(self) -> Any:
        return self.clean_as_api("contacts")

    def clean_as_api(self, name: str) -> Any:
        if name not in self.changed_data:  # a merge may have made a list longer than the API accepts
            return self.cleaned_data[name]
        field = PatientSerializer(self.instance).fields[name]
        try:
            return field.run_validation(self.cleaned_data[name])
        except serializers.ValidationError as error:
            rows: Any = self.fields[name]
            raise ValidationError(rows.show_errors(self[name].data, list(flatten(error.detail)))) from None

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if cleaned.keys() >= LIFE_FIELDS:
            stated = {name: cleaned[name] for name in LIFE_FIELDS}
            if stated["birth_date"] is not None and "birth_year" not in self.changed_data:
                del stated["birth_year"]
            cleaned |= resolve_life(stated, Life)  # the form states everything: nothing stored decides
        return cleaned
