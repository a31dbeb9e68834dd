"""Which models hold patients' data follows from their foreign keys, not from a list of names."""

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.test.utils import isolate_apps

from accounts.models import User
from audit.patient_data import patient_id_field_of, patient_ids_of
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from mappings.models import Mapping, MappingEvent
from patients.models import Patient, PatientEvent, PatientMerge
from patients.tests.factories import make_patient


@pytest.mark.parametrize(
    ("model", "field"),
    [(Patient, "id"), (PatientEvent, "id"), (Mapping, "patient_id"), (MappingEvent, "patient_id"),
     (PatientMerge, "survivor_id"), (Doctor, None), (User, None)],
)  # fmt: skip
def test_a_model_with_a_foreign_key_to_patients_holds_their_data(model: type[models.Model], field: str | None):
    assert patient_id_field_of(model) == field


@isolate_apps("patients")
def test_several_foreign_keys_need_a_declaration():
    class Siblings(models.Model):  # noqa: DJ008
        elder = models.ForeignKey(Patient, models.PROTECT, related_name="+")
        younger = models.ForeignKey(Patient, models.PROTECT, related_name="+")

        class Meta:
            app_label = "patients"

    with pytest.raises(ImproperlyConfigured, match="several foreign keys"):
        patient_id_field_of(Siblings)


def test_a_read_that_cannot_be_recorded_is_not_answered(alice: User):
    assert patient_ids_of([make_patient(alice, id=7)]) == {7}
    with pytest.raises(ImproperlyConfigured):
        patient_ids_of([make_doctor(alice)])
