"""The search for merged patients in the admin. Their terms are those of the record that they were merged into."""

from collections.abc import Iterable
from typing import Any

from django.db.models import Exists, OuterRef

from healthcare.admin.lists import RowsInParts
from healthcare.search.staff_hits import StaffHits
from healthcare.search.statements import PageOfHits
from patients.models import PATIENT_SEARCH, Patient

MOST_SURVIVORS = 200


class MergedHits(RowsInParts):
    """The merged patients among these rows, the newest first, whose survivor is among the best matches."""

    def __init__(self, rows: Any, text: str, owner: int | None) -> None:
        survivors = Patient.objects.filter(Exists(Patient.objects.filter(merged_into=OuterRef("pk"))), merged_into=None)
        hits = StaffHits(survivors, PATIENT_SEARCH, text, owner=owner, hidden=[False, True])
        found = duplicates_of(hits.look_up(PageOfHits(None, MOST_SURVIVORS)))
        super().__init__(rows.filter(pk__in=found), ["id"])


def duplicates_of(survivors: Iterable[int]) -> set[int]:
    """The ids of the patients who were merged into these, directly or in turn."""
    found: set[int] = set()
    ahead = {*survivors}
    while ahead:
        ahead = {*Patient.objects.filter(merged_into__in=ahead).values_list("pk", flat=True)} - found
        found |= ahead
    return found
