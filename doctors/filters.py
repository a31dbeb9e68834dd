"""The filters of the list of doctors."""

from healthcare.api.filters import ListFilterSet, TextFilter


class DoctorFilter(ListFilterSet):
    specialization = TextFilter(label="The whole specialization, in any case.")
    hospital = TextFilter(label="The whole name of the hospital, in any case.")
    license_number = TextFilter(label="The whole license number, in any case.")
