"""The search for merged patients in the admin. The index has their terms as those of the record that they were merged
into, so the terms are made from their rows."""

from typing import Any

from django.db import connection

from healthcare.admin.lists import RowsInParts
from healthcare.search.staff_hits import StaffHits
from healthcare.search.triggers import terms_of
from patients.models import PATIENT_SEARCH, Patient

MOST_SEARCHED = 10_000
SEARCH_MERGED = """
SELECT id FROM (
    SELECT id, {terms} AS terms FROM patients_patient WHERE merged_into_id IS NOT NULL {of_owner}
    ORDER BY id DESC LIMIT {most}
) AS merged WHERE {matches}
"""


class MergedHits(RowsInParts):
    """The merged patients among these rows that match the text, the newest first. Only the last MOST_SEARCHED merged
    patients, of the owner if there is one, are looked at."""

    def __init__(self, rows: Any, text: str, owner: int | None) -> None:
        super().__init__(rows.filter(pk__in=find_merged(text, owner)), ["id"])


def find_merged(text: str, owner: int | None) -> list[int]:
    """The ids of the merged patients whose own terms match the text: the whole of it, or each of its words."""
    hits = StaffHits(Patient.objects.all(), PATIENT_SEARCH, text, owner=owner)
    by_place: dict[int, list[str]] = {}
    for place, _, term in hits.query_terms.rows():
        by_place.setdefault(place, []).append(term)
    words = [by_place[place] for place in range(1, hits.query_terms.words + 1) if place in by_place]
    matches = ["terms && %s::text[]"] + ([" AND ".join(["terms && %s::text[]"] * len(words))] if words else [])
    sql = SEARCH_MERGED.format(
        terms=terms_of(PATIENT_SEARCH, ""),
        of_owner="" if owner is None else f"AND created_by_id = {int(owner)}",
        most=MOST_SEARCHED,
        matches=" OR ".join(f"({one})" for one in matches),
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [by_place.get(0, []), *words])
        return [key for (key,) in cursor.fetchall()]
