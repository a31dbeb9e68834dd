"""Who read the data of one patient, for the patient's history page."""

from typing import Any

from django.db.models import BigIntegerField, ExpressionWrapper, F, Model
from django.http import HttpRequest

from audit.history import event_model_of
from audit.models import AccessLog
from audit.patient_data import patient_id_field_of

# The id in an expression. Rows that are found by their patients are compared and ordered by it, so that PostgreSQL uses
# the index on the patients, and does not read the log in the order of its key until it meets them.
POSITION = ExpressionWrapper(F("id") + 0, output_field=BigIntegerField())


def accesses_to(patient: Any, before: int | None, limit: int) -> list[AccessLog]:
    """At most `limit` accesses to a patient, the latest first, those with an id below `before`.

    As in the view of `PatientAccess`, a request for an id that did not exist yet is no access to the patient who has it
    since. The cost grows with the accesses to this patient.
    """
    first = event_model_of(type(patient)).objects.filter(id=patient.pk).order_by("pgh_id").first()
    rows = AccessLog.objects.filter(patient_ids__contains=[patient.pk])
    rows = rows.annotate(position=POSITION)
    if first is not None:
        rows = rows.filter(at__gte=first.pgh_created_at)
    if before is not None:
        rows = rows.filter(position__lt=before)
    return list(rows.order_by("-position")[:limit])


def patient_history_route(site: Any, request: HttpRequest) -> str:
    """The name of the page with the history of a patient; empty for users who may not view patients."""
    for model, page in site._registry.items():
        about: type[Model] = model
        if patient_id_field_of(about) == "id" and page.has_view_permission(request):
            return f"{site.name}:{model._meta.app_label}_{model._meta.model_name}_history"
    return ""
