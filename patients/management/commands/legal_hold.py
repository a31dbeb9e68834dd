"""`manage.py legal_hold ID --reason TEXT | --release`: forbid to remove anything about a patient, or allow it again."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.models import Archive
from healthcare.operations.command_options import checked_reason, operating_system_account
from patients.command_options import staff_username
from patients.legal_hold import HoldError, release_hold, set_hold


class Command(BaseCommand):
    help = (
        "Put a patient under a legal hold, or release it. Until it is released the patient is not deleted, merged, "
        "unmerged or erased, and no month that holds rows about the patient is archived."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, metavar="PATIENT", help="The patient's id.")
        parser.add_argument(
            "--reason",
            metavar="TEXT",
            help="The reason, one line that stays permanently, such as the number of the case. Required to set a hold. "
            "Write no name in it, and nothing about the person's health.",
        )
        parser.add_argument("--release", action="store_true", help="Release the hold.")
        parser.add_argument("--by", default="", metavar="USERNAME", help="The member of staff who asks for it.")

    def handle(self, *args: Any, **options: Any) -> None:
        patient_id, release, reason = options["id"], options["release"], options["reason"]
        if reason is None and not release:
            raise CommandError("Give --reason TEXT to set a hold, or --release to release it.")
        who = {"account": operating_system_account(), "username": staff_username(options["by"])}
        text = "" if reason is None else checked_reason(reason)
        try:
            hold = (release_hold if release else set_hold)(patient_id, reason=text, **who)
        except HoldError as error:
            raise CommandError(str(error)) from error
        others = [record for record in hold.record_ids if record != patient_id]
        merged = f" With it are held the records merged into it: {', '.join(map(str, others))}." if others else ""
        self.stdout.write(
            f"Released the hold on patient {patient_id}."
            if release
            else f"Patient {patient_id} is under a legal hold.{merged}"
        )
        if not release and (archives := Archive.objects.file_names()):
            self.stdout.write(f"Older rows may be in archives; keep these files: {archives}.")
