"""`manage.py erase_doctor ID --reason TEXT`: erase a doctor permanently."""

from typing import Any

from django.core.management.base import CommandError

from doctors.models import Doctor
from mappings.erasure import StillNeededError, erase_doctor
from patients.erasure_command import ErasureCommand
from patients.models import ErasureReceipt


class Command(ErasureCommand):
    help = (
        "Erase a doctor permanently: the record, its history and the assignments that have ended. This cannot be "
        "undone; DELETE in the API only hides. It is refused while the doctor treats somebody. A receipt records when, "
        "by whom, why and how many rows, and none of the erased data."
    )
    argument, argument_help = "id", "The doctor's id."

    def erase(self, subject: Any, **wanted: str) -> ErasureReceipt:
        try:
            return erase_doctor(subject, **wanted)
        except Doctor.DoesNotExist as error:
            raise CommandError(f"There is no doctor {subject}.") from error
        except StillNeededError as error:
            message = (
                f"Doctor {subject} has {error.count} active assignments: end them first, for example in the admin."
            )
            raise CommandError(message) from error
