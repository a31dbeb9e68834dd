"""What the list of assignments can be narrowed by."""

import django_filters

from healthcare.api.filters import IdFilter, TextFilter


class MappingFilter(django_filters.FilterSet):
    patient = IdFilter(
        "patients.Patient", scope=lambda patients, user: patients.owned_by(user).active(), label="A patient of yours."
    )
    doctor = IdFilter("doctors.Doctor", scope=lambda doctors, user: doctors.active(), label="A doctor.")
    role = TextFilter(label="The whole role, in any case.")
