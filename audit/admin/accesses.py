"""Who read the data of one patient, for the patient's history page."""

from typing import Any

from django.db.models import BigIntegerField, ExpressionWrapper, F

from audit.history import event_model_of
from audit.models import AccessLog


def accesses_to(patient: Any, before: int | None, limit: int) -> list[AccessLog]:
    """At most `limit` accesses to a patient, the latest first, those with an id below `before`.

    As in the view of `PatientAccess`, a request for an id that did not exist yet is no access to the patient who has it
    since. The ids are compared and ordered in an expression, so that PostgreSQL uses the index on the patients alone,
    not the whole log in the order of its key: the cost grows with the accesses to this patient.
    """
    first = event_model_of(type(patient)).objects.filter(id=patient.pk).order_by("pgh_id").first()
    rows = AccessLog.objects.filter(patient_ids__contains=[patient.pk])
    rows = rows.annotate(position=ExpressionWrapper(F("id") + 0, output_field=BigIntegerField()))
    if first is not None:
        rows = rows.filter(at__gte=first.pgh_created_at)
    if before is not None:
        rows = rows.filter(position__lt=before)
    return list(rows.order_by("-position")[:limit])
