"""The filters of the list of patients. Other apps add theirs: see `healthcare.api.extensions`."""

import datetime
from typing import Any

import django_filters
from django import forms
from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema_field

from healthcare.api.filters import DayFilter, ListFilterSet, TextFilter, TimeFilter, WholeNumberFilter, read_date_time
from patients.birth import HAS_AGE, MAXIMUM_AGE, at_least_this_old, born_on_or_after, born_on_or_before
from patients.identifiers import LONGEST_PAIR, with_identifier
from patients.models import Gender, gender_code


class GenderChoice(forms.ChoiceField):
    def to_python(self, value: Any) -> str:
        return gender_code(super().to_python(value))


@extend_schema_field({"type": "string", "enum": Gender.values})
class GenderFilter(django_filters.Filter):
    field_class = GenderChoice


class PatientFilter(ListFilterSet):
    gender = GenderFilter(choices=Gender.choices, label="As it is written in a patient.")
    birth_date_after = DayFilter(
        method="born_after", label="Born on this day or later, or in a year that has such a day."
    )
    birth_date_before = DayFilter(
        method="born_before", label="Born on this day or earlier, or in a year that has such a day."
    )
    age_min = WholeNumberFilter(
        method="at_least",
        min_value=0,
        max_value=MAXIMUM_AGE,
        label="At least this age today, or on the day of `as_of`.",
    )
    age_max = WholeNumberFilter(
        method="at_most", min_value=0, max_value=MAXIMUM_AGE, label="At most this age today, or on the day of `as_of`."
    )
    identifier = TextFilter(
        method="by_identifier",
        max_length=LONGEST_PAIR,
        label="A whole `identifier`, the whole value of one of the `identifiers`, or `system|value` of one of them.",
    )
    created_after = TimeFilter(field_name="created_at", lookup_expr="gte", label="Created then or later.")
    created_before = TimeFilter(field_name="created_at", lookup_expr="lte", label="Created then or earlier.")
    updated_after = TimeFilter(field_name="updated_at", lookup_expr="gte", label="Last changed then or later.")
    updated_before = TimeFilter(field_name="updated_at", lookup_expr="lte", label="Last changed then or earlier.")

    def by_identifier(self, patients: QuerySet, name: str, text: str) -> QuerySet:
        return with_identifier(patients, text)

    def at_least(self, patients: QuerySet, name: str, age: int) -> QuerySet:
        return patients.filter(at_least_this_old(age, self.day))

    def at_most(self, patients: QuerySet, name: str, age: int) -> QuerySet:
        return patients.filter(~at_least_this_old(age + 1, self.day), HAS_AGE)

    def born_after(self, patients: QuerySet, name: str, day: datetime.date) -> QuerySet:
        return patients.filter(born_on_or_after(day))

    def born_before(self, patients: QuerySet, name: str, day: datetime.date) -> QuerySet:
        return patients.filter(born_on_or_before(day))

    @property
    def day(self) -> datetime.date:
        """The day on which ages are counted: today, or that of `as_of`, which the view has checked."""
        moment = (self.data or {}).get("as_of")
        return timezone.localdate(read_date_time(moment) if moment else None)
