"""What the admin calls the fields of models: the words of the form, also in lists, history, clashes and merges."""

from typing import Any

from django.contrib import admin
from django.db.models import Field
from django.utils.text import capfirst


def field_label(field: Field) -> str:
    """The label that the form of the field's model gives it; without one, the field's own name."""
    if field.name == "created_by":
        return "Owner"
    form: Any = admin.site.get_model_admin(field.model).form if admin.site.is_registered(field.model) else None
    declared = form.declared_fields.get(field.name) if form else None
    given = declared.label if declared else ((form._meta.labels or {}).get(field.name) if form else None)
    return str(given or capfirst(field.verbose_name))
