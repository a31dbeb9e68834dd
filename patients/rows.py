"""What other rooms keep of a patient, when two records turn out to be of one person: see `merges`."""

from typing import Any

from healthcare.ownership import OwnedQuerySet
from patients.models import Patient

Moved = dict[str, dict[str, Any]]  # what else a merge changed on each row that it moved, by the row's id, as JSON


class PatientRows(OwnedQuerySet):
    """Rows that belong to a patient by the foreign key `field`. A room whose rows may contradict each other extends
    these verbs; any other need not know of them."""

    def join(self, field: str, duplicate: Patient, survivor: Patient) -> Moved:
        """Give the duplicate's rows to the survivor. Both patients are locked."""
        rows: list[Any] = list(self.filter(**{field: duplicate}).order_by("pk").locked())
        self.give(rows, field, survivor)
        return {str(row.pk): {} for row in rows}

    def part(self, field: str, duplicate: Patient, survivor: Patient, moved: Moved) -> None:
        """Give back to the duplicate which of its rows the survivor still has. Both patients are locked."""
        rows = self.filter(**{field: survivor}, pk__in=moved).order_by("pk").locked()
        self.give(list(rows), field, duplicate)

    def give(self, rows: list[Any], field: str, patient: Patient, *changed: str) -> None:
        """Write these locked rows as the patient's, with what else was changed on them."""
        for row in rows:
            setattr(row, field, patient)
        self.bulk_update(rows, [field, *changed], batch_size=500)
