"""`manage.py export_patient ID --to FILE`: write everything that is stored about a patient into one file."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from accounts.models import User
from audit.models import AccessLog, Basis
from healthcare.operations.backup_errors import BackupError
from healthcare.operations.command_options import operating_system_account
from healthcare.operations.request_ids import LONGEST_REQUEST_ID
from healthcare.operations.unfinished_file import check_target, unfinished_file
from patients.command_options import staff_username
from patients.erasure import merged_record_ids
from patients.models import Patient
from patients.person_file.writer import begin_reading_one_state, write_person_file


class Command(BaseCommand):
    help = (
        "Write everything that is stored about a patient, and about the records merged into it, into a new ZIP archive "
        "that only this account can read: a readable page, JSON, and a manifest. The export is recorded in the access "
        "log. `verify_file` verifies the file."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, metavar="PATIENT", help="The patient's id.")
        parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="The new file.")
        parser.add_argument(
            "--names",
            action="store_true",
            help="Name the users who read or changed something.",
        )
        parser.add_argument("--owner", default="", metavar="NAME", help="Refuse a patient of another owner.")
        parser.add_argument("--by", default="", metavar="USERNAME", help="The member of staff who asks for it.")

    def handle(self, *args: Any, **options: Any) -> None:
        username, path = staff_username(options["by"]), options["to"].absolute()
        try:
            check_target(path)
            with unfinished_file(path) as file, transaction.atomic():
                begin_reading_one_state()
                patient = find_patient(options["id"], options["owner"])
                digest = write_person_file(file, patient, names=options["names"])
                record_person_file(patient, username)
        except BackupError as error:
            raise CommandError(f"{path} exists, or its folder does not; give the name of a new file.") from error
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}.") from error
        self.stdout.write(f"{path} is written, SHA-256 of its manifest {digest}.")


def find_patient(patient_id: int, owner: str) -> Patient:
    patients = Patient.objects.filter(pk=patient_id)
    if owner:
        user = User.objects.find_by_identifier(owner)
        if user is None:
            raise CommandError("--owner: There is no user with this username.")
        patients = patients.filter(created_by=user)
    patient: Patient | None = patients.first()
    if patient is None:
        raise CommandError(f"There is no patient {patient_id}{' of this owner' if owner else ''}.")
    if patient.merged_into_id:
        raise CommandError(
            f"Patient {patient_id} was merged into {patient.merged_into_id}: export that one, and this goes with it."
        )
    return patient


def record_person_file(patient: Patient, username: str) -> None:
    """Record the export as a read by the member of staff who has asked for it, or by nobody who is logged in, and with
    the account of the operating system."""
    staff = User.objects.find_by_identifier(username) if username else None
    AccessLog.objects.record(
        staff.pk if staff else 0,
        "patient.file",
        merged_record_ids([patient.pk]),
        basis=Basis.STAFF,
        request_id=f"manage.py export_patient by {operating_system_account()}"[:LONGEST_REQUEST_ID],
        outcome=200,
        pure_read=False,
    )
