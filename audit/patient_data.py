"""Which models hold data about patients, and in which field a row names its patient.

The model of the patients declares `patient_id_field = "id"`. A model with one foreign key to it needs no declaration;
one with several declares the attribute too. An event model follows the model whose history it holds.
"""

from collections.abc import Iterable
from functools import cache

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Field, Model


@cache
def patient_id_field_of(model: type[Model]) -> str | None:
    """The name of the field that holds the id of the patient whom a row is about; None where rows are about none.

    Raises ImproperlyConfigured for a model with several foreign keys to patients and no declaration.
    """
    tracked: type[Model] = getattr(model, "pgh_tracked_model", model)
    declared: str | None = getattr(tracked, "patient_id_field", None)
    if declared is not None:
        return declared
    keys = [field.attname for field in tracked._meta.concrete_fields if refers_to_patients(field)]
    if len(keys) > 1:
        raise ImproperlyConfigured(
            f"{tracked._meta.label} has several foreign keys to patients; set its `patient_id_field` to one of them."
        )
    return keys[0] if keys else None


def refers_to_patients(field: Field) -> bool:
    return getattr(field.related_model, "patient_id_field", None) == "id"


def patient_ids_of(records: Iterable[Model]) -> set[int]:
    """The ids of the patients whom these records, or events of records, are about.

    Raises ImproperlyConfigured for records that are about none, since a read of them cannot be recorded.
    """
    return {patient_id_of(record) for record in records}


def patient_id_of(record: Model) -> int:
    model = type(record)
    field = patient_id_field_of(model)
    if field is None:
        raise ImproperlyConfigured(f"{model._meta.label} has no foreign key to patients; do not record its reads.")
    patient_id: int = getattr(record, field)
    return patient_id
