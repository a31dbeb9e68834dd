"""Extensions of an app's API by another app."""

import pytest

from healthcare.api.extensions import register_filter, register_inclusion
from mappings.filters import TreatingDoctorFilter
from mappings.inclusions import DOCTORS_INCLUSION
from patients.filters import PatientFilter
from patients.views import PatientViewSet


def test_a_filter_that_exists_is_not_replaced():
    with pytest.raises(ValueError, match="'doctor'"):
        register_filter(PatientFilter, "doctor", TreatingDoctorFilter())


def test_an_inclusion_that_exists_is_not_replaced():
    with pytest.raises(ValueError, match="'doctors'"):
        register_inclusion(PatientViewSet, "doctors", DOCTORS_INCLUSION)
