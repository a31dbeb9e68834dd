"""The filters of the list of doctors."""

import django_filters

from healthcare.api.filters import TextFilter


class DoctorFilter(django_filters.FilterSet):
    specialization = TextFilter(label="The whole specialization, in any case.")
    hospital = TextFilter(label="The whole name of the hospital, in any case.")
    license_number = TextFilter(label="The whole license number, in any case.")
