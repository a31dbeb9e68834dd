"""How the rows that refer to a patient take part in a merge: see `merges`."""

from typing import Any

from healthcare.ownership import OwnedQuerySet
from patients.models import Patient

# For each row that a merge moved, by its id: the other columns that the merge changed on it, with their new values as
# JSON.
MovedRows = dict[str, dict[str, Any]]


class PatientRelatedQuerySet(OwnedQuerySet):
    """Rows that refer to a patient by the foreign key `field`.

    A model whose rows may contradict each other once they are all of one patient overrides `move_to_survivor` and
    `move_back`. Any other model needs neither this class nor any knowledge of merges.
    """

    def move_to_survivor(self, field: str, duplicate: Patient, survivor: Patient) -> MovedRows:
        """Make the duplicate's rows the survivor's. Both patients are locked."""
        rows: list[Any] = list(self.filter(**{field: duplicate}).order_by("pk").locked())
        self.reassign(rows, field, survivor)
        return {str(row.pk): {} for row in rows}

    def describe_move(self, field: str, duplicate: Patient, survivor: Patient) -> list[str]:
        """Sentences for staff about what `move_to_survivor` would do."""
        number = self.filter(**{field: duplicate}).count()
        plural = self.model._meta.verbose_name_plural
        return [f"{str(plural).capitalize()} that move to patient {survivor.pk}: {number}."]

    def move_back(self, field: str, duplicate: Patient, survivor: Patient, moved: MovedRows) -> None:
        """Make the moved rows that are still the survivor's the duplicate's again. Both patients are locked."""
        rows = self.filter(**{field: survivor}, pk__in=moved).order_by("pk").locked()
        self.reassign(list(rows), field, duplicate)

    def reassign(self, rows: list[Any], field: str, patient: Patient, *changed_columns: str) -> None:
        """Write these locked rows as the patient's, together with other columns that were changed on them."""
        for row in rows:
            setattr(row, field, patient)
        self.bulk_update(rows, [field, *changed_columns], batch_size=500)
