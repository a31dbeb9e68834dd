from doctors.models import Doctor
from mappings.models import Mapping
from patients.models import Patient


def make_mapping(patient: Patient, doctor: Doctor, **fields: object) -> Mapping:
    return Mapping.objects.create(**{"created_by": patient.created_by, "patient": patient, "doctor": doctor, **fields})


def make_past_mapping(patient: Patient, doctor: Doctor, **fields: object) -> Mapping:
    mapping = make_mapping(patient, doctor, **fields)
    Mapping.objects.filter(pk=mapping.pk).end()
    return mapping
