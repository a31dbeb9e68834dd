"""Which patients have passed the retention period: deleted, or not treated, since."""

import datetime
from collections.abc import Iterator
from typing import NamedTuple

from django.db.models import Exists, Max, OuterRef, Q
from django.db.models.functions import Greatest

from audit.models import LegalHold
from mappings.models import Mapping
from patients.models import Patient


class PatientDue(NamedTuple):
    patient_id: int
    is_deleted: bool
    since: datetime.datetime
    is_held: bool


def years_before(moment: datetime.datetime, years: int) -> datetime.datetime:
    """The same day so many years before; the 28th for a 29 February that the year does not have."""
    try:
        return moment.replace(year=moment.year - years)
    except ValueError:
        return moment.replace(year=moment.year - years, day=28)


def patients_due(before: datetime.datetime) -> Iterator[PatientDue]:
    """The patients who were deleted before this time, or since then neither changed nor treated by a doctor, by id.

    A record that was merged into another one is no patient of its own.
    """
    treated = Mapping.objects.filter(patient=OuterRef("pk")).filter(
        Q(ended_at=None) | Q(ended_at__gte=before) | Q(started_at__gte=before)
    )
    idle = Q(deleted_at=None, updated_at__lt=before) & ~Exists(treated)
    patients = Patient.objects.unmerged().filter(Q(deleted_at__lt=before) | idle)
    since = Greatest("updated_at", Max("mappings__ended_at"))
    held = LegalHold.objects.active().held_records()
    rows = patients.annotate(since=since).order_by("pk").values_list("pk", "deleted_at", "since")
    for key, deleted_at, last in rows.iterator():
        yield PatientDue(key, deleted_at is not None, deleted_at or last, key in held)
