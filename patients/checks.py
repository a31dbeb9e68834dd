"""System checks of patients: a merge knows what to do with every field."""

from typing import Any

from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

from patients.merges import FIELDS_NOT_FILLED, empty_value
from patients.models import Patient


@register()
def merges_know_every_field(**_: Any) -> list[CheckMessage]:
    """E001: a field that a merge can neither fill nor leave out. E002: a field is left out that does not exist."""
    fields = {field.name: field for field in Patient._meta.concrete_fields}
    found: list[CheckMessage] = []
    for name in fields.keys() - FIELDS_NOT_FILLED:
        try:
            empty_value(fields[name])
        except ImproperlyConfigured as error:
            found.append(Error(str(error), obj=Patient, id="patients.E001"))
    for name in sorted(FIELDS_NOT_FILLED - fields.keys()):
        hint = "Remove the name from patients.merges.FIELDS_NOT_FILLED."
        found.append(Error(f"Patient has no field {name!r}.", hint=hint, obj=Patient, id="patients.E002"))
    return found
