"""`manage.py erase_patient ID --reason TEXT`: erase a person permanently."""

import os
import pwd
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from accounts.models import User
from patients.erasure import MergedError, erase
from patients.models import ErasureReceipt, Patient


class Command(BaseCommand):
    help = (
        "Erase a patient permanently: the record, the records merged into it and every row that refers to them. This "
        "cannot be undone; DELETE in the API only hides. A receipt records when, by whom, why and how many rows, and "
        "none of the erased data. "
        "Backups and PostgreSQL's write-ahead log hold the rows until they expire."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, help="The patient's id.")
        parser.add_argument(
            "--reason",
            required=True,
            help="The reason, one line that stays on the receipt permanently, such as the number of the request. "
            "Write nothing about the person's health in it, and no name.",
        )
        parser.add_argument("--by", default="", metavar="USERNAME", help="The member of staff who asks for it.")
        parser.add_argument("--dry-run", action="store_true", help="Say how many rows it would erase, and erase none.")
        parser.add_argument(
            "--yes", "--noinput", "--no-input", action="store_true", dest="yes", help="Do not ask for confirmation."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = {
            "reason": checked_reason(options["reason"]),
            "username": staff_username(options["by"]),
            "account": operating_system_account(),
        }
        if options["dry_run"] or not options["yes"]:
            self.report("Would be erased:", self.erased(options["id"], **wanted, keep=False))
        if options["dry_run"]:
            return
        if not options["yes"]:
            self.confirm(options["id"])
        receipt = self.erased(options["id"], **wanted, keep=True)
        self.report("Erased:", receipt)
        self.stdout.write(f"Receipt {receipt.pk}.")

    def erased(self, patient_id: int, *, keep: bool, **wanted: str) -> ErasureReceipt:
        """Erase; without `keep` it is undone again, which counts exactly what erasing finds."""
        try:
            with transaction.atomic():
                receipt = erase(patient_id, **wanted)
                transaction.set_rollback(not keep)
        except Patient.DoesNotExist as error:
            raise CommandError(f"There is no patient {patient_id}.") from error
        except MergedError as error:
            message = f"Patient {patient_id} was merged into {error.survivor}: erase that one, and this goes with it."
            raise CommandError(message) from error
        return receipt

    def report(self, heading: str, receipt: ErasureReceipt) -> None:
        self.stdout.write(heading)
        for table, count in receipt.counts.items():
            self.stdout.write(f"  {table} {count}")

    def confirm(self, patient_id: int) -> None:
        self.stdout.write(f"Type {patient_id} to erase this permanently: ", ending="")
        self.stdout.flush()
        try:
            answer = input()
        except EOFError as error:
            raise CommandError("Nobody to ask, nothing was erased; give --yes to go on without asking.") from error
        if answer.strip() != str(patient_id):
            raise CommandError("Nothing was erased.")


def checked_reason(text: str) -> str:
    try:
        return str(ErasureReceipt._meta.get_field("reason").clean(text.strip(), None))
    except ValidationError as error:
        raise CommandError(f"--reason: {' '.join(error.messages)}") from error


def staff_username(name: str) -> str:
    """The username of a member of staff, as it is stored; empty when none is named."""
    user = User.objects.find_by_identifier(name) if name else None
    if name and not (user and user.is_staff and user.is_active):
        raise CommandError("--by: There is no active member of staff with this username.")
    return user.username if user else ""


def operating_system_account() -> str:
    """Who runs this, as the operating system knows it; the number where the account has no name, as in a container."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
