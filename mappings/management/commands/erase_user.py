"""`manage.py erase_user USERNAME --reason TEXT`: erase an account permanently."""

from typing import Any

from django.core.management.base import CommandError

from accounts.models import User
from mappings.erasure import LastManagerError, StillNeededError, erase_user
from patients.erasure_command import ErasureCommand
from patients.models import ErasureReceipt


class Command(ErasureCommand):
    help = (
        "Erase an account or a clinic permanently: the user, the sessions and tokens, the second factor, the addresses "
        "of logins, the counts of attempts, the delegations, the notices that name the user, the invitations of and to "
        "the user, and the history of the account. Doctors that it has added stay, without a creator. It is "
        "refused for a user who owns patients, and for the last manager of a clinic. A receipt records when, by whom, "
        "why and how many rows, and none of the erased data."
    )
    argument, argument_type, argument_help = "username", str, "The username or the e-mail."

    def erase(self, subject: Any, **wanted: str) -> ErasureReceipt:
        user = User.objects.find_by_identifier(subject)
        if user is None:
            raise CommandError("There is no user with this username.")
        try:
            return erase_user(user, **wanted)
        except LastManagerError as error:
            raise CommandError(str(error)) from error
        except StillNeededError as error:
            raise CommandError(
                "Hand over (hand_over) or erase (erase_patient) the patients of this user first, deleted ones included"
                f": {error.count}."
            ) from error
