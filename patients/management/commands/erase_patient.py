"""`manage.py erase_patient ID --reason TEXT`: erase a person permanently."""

from typing import Any

from django.core.management.base import CommandError

from patients.erasure import MergedError, erase
from patients.erasure_command import ErasureCommand
from patients.models import ErasureReceipt, Patient


class Command(ErasureCommand):
    help = (
        "Erase a patient permanently: the record, the records merged into it and every row that refers to them. This "
        "cannot be undone; DELETE in the API only hides. A receipt records when, by whom, why and how many rows, and "
        "none of the erased data. "
        "Backups and PostgreSQL's write-ahead log hold the rows until they expire."
    )
    argument, argument_help = "id", "The patient's id."

    def erase(self, subject: Any, **wanted: str) -> ErasureReceipt:
        try:
            return erase(subject, **wanted)
        except Patient.DoesNotExist as error:
            raise CommandError(f"There is no patient {subject}.") from error
        except MergedError as error:
            message = f"Patient {subject} was merged into {error.survivor}: erase that one, and this goes with it."
            raise CommandError(message) from error
