"""The base of the commands that erase a person: their options, the dry run and the question."""

import os
import pwd
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from accounts.models import User
from audit.legal_hold import HeldError
from audit.models import Archive
from patients.models import ErasureReceipt


class ErasureCommand(BaseCommand):
    """A subclass names its argument, and erases in `erase`."""

    argument: ClassVar[str]
    argument_type: ClassVar[type] = int
    argument_help: ClassVar[str]

    def erase(self, subject: Any, *, reason: str, account: str, username: str) -> ErasureReceipt:
        """Erase in the current transaction. Raises CommandError if that is refused."""
        raise NotImplementedError

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(self.argument, type=self.argument_type, help=self.argument_help)
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
            self.report("Would be erased:", self.erased(options[self.argument], **wanted, keep=False))
        if options["dry_run"]:
            return
        if not options["yes"]:
            self.confirm(options[self.argument])
        receipt = self.erased(options[self.argument], **wanted, keep=True)
        self.report("Erased:", receipt)
        self.stdout.write(f"Receipt {receipt.pk}.")
        if archives := Archive.objects.file_names():
            self.stdout.write(f"Not erased: rows in archives, which are {archives}.")

    def erased(self, subject: Any, *, keep: bool, **wanted: str) -> ErasureReceipt:
        """Erase; without `keep` it is undone again, which counts exactly what erasing finds."""
        try:
            with transaction.atomic():
                receipt = self.erase(subject, **wanted)
                transaction.set_rollback(not keep)
        except HeldError as error:
            raise CommandError(str(error)) from error
        return receipt

    def report(self, heading: str, receipt: ErasureReceipt) -> None:
        self.stdout.write(heading)
        for table, count in receipt.counts.items():
            self.stdout.write(f"  {table} {count}")

    def confirm(self, subject: Any) -> None:
        self.stdout.write(f"Type {subject} to erase this permanently: ", ending="")
        self.stdout.flush()
        try:
            answer = input()
        except EOFError as error:
            raise CommandError("Nobody to ask, nothing was erased; give --yes to go on without asking.") from error
        if answer.strip() != str(subject):
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
