"""The base of the commands that erase a person: their options and the dry run."""

from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from audit.legal_hold import HeldError
from audit.models import Archive
from healthcare.operations.clock import check_clock
from healthcare.operations.command_options import (
    add_confirmation_options,
    checked_reason,
    confirm,
    operating_system_account,
)
from patients.command_options import staff_username
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
        add_confirmation_options(parser, "Say how many rows it would erase, and erase none.")

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = {
            "reason": checked_reason(options["reason"]),
            "username": staff_username(options["by"]),
            "account": operating_system_account(),
        }
        check_clock()  # the answers of the last day are found by their time
        if options["dry_run"] or not options["yes"]:
            self.report("Would be erased:", self.erased(options[self.argument], **wanted, keep=False))
        if options["dry_run"]:
            return
        if not options["yes"]:
            confirm(self.stdout, str(options[self.argument]), to="erase this permanently", done="erased")
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
