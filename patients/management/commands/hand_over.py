"""`manage.py hand_over FROM TO --reason TEXT`: give everything that a user owns to another user or to a clinic."""

from typing import Any

import pghistory
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from accounts.delegations.models import Delegation
from accounts.models import User
from healthcare.operations.command_options import (
    add_confirmation_options,
    checked_reason,
    confirm,
    operating_system_account,
)
from patients.hand_over import HandedOverDelegations, hand_over_delegations, hand_over_patients
from patients.models import Patient


class Command(BaseCommand):
    help = (
        "Give everything that a user owns to another user or a clinic: the patients, deleted ones included, with their "
        "assignments and their history, and the delegations that the user has given. These move only to a clinic, or "
        "to somebody who owns no patients yet; otherwise they end. The patients move in batches while the API goes on. "
        "An interrupted run is continued by the same command."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("giver", metavar="FROM", help="The username of the user who leaves.")
        parser.add_argument("to", metavar="TO", help="The username of the new owner, who may be a clinic.")
        parser.add_argument(
            "--reason", required=True, help="One line, which the history of each record shows. No data of patients."
        )
        add_confirmation_options(parser, "Say what it would move, and move nothing.")

    def handle(self, *args: Any, **options: Any) -> None:
        reason = checked_reason(options["reason"])
        giver, to = find_user("FROM", options["giver"]), find_user("TO", options["to"])
        if giver == to:
            raise CommandError("FROM and TO are the same user.")
        if giver.is_clinic:
            raise CommandError(
                "last_manager: FROM is a clinic, which keeps its managers. Hand over its patients in the admin, or "
                "offer them with transfers in the API. Nothing was handed over."
            )
        if not to.is_active:
            raise CommandError("TO is not active: nobody could work with the patients.")
        if options["dry_run"] or not options["yes"]:
            delegations = self.move_delegations(giver, to, keep=False)
            self.stdout.write("Would be handed over:")
            self.report(delegations, Patient.objects.owned_by(giver).count())
        if options["dry_run"]:
            return
        if not options["yes"]:
            confirm(self.stdout, giver.username, to="hand this over", done="handed over")
        # The history names the reason beside what it names for every command.
        with pghistory.context(reason=reason, login=operating_system_account(), application="manage.py hand_over"):
            delegations, total = self.move_delegations(giver, to, keep=True), Patient.objects.owned_by(giver).count()
            moved = 0
            for number in hand_over_patients(giver, to):
                moved += number
                self.stdout.write(f"{moved:,} of {total:,} records of patients handed over.")
                self.stdout.flush()
        self.stdout.write("Handed over:")
        self.report(delegations, moved)
        for delegation in Delegation.objects.living().filter(delegate=giver).select_related("owner").order_by("pk"):
            self.stdout.write(
                f"{giver.username} is still a delegate of {delegation.owner.username} ({delegation.role})."
            )

    def move_delegations(self, giver: User, to: User, *, keep: bool) -> HandedOverDelegations:
        """Move or end the delegations; without `keep` it is undone again."""
        with transaction.atomic():
            found = hand_over_delegations(giver, to)
            transaction.set_rollback(not keep)
        return found

    def report(self, delegations: HandedOverDelegations, patients: int) -> None:
        self.stdout.write(f"  patients {patients}")
        for what, found in (("moved", delegations.moved), ("ended", delegations.ended)):
            self.stdout.write(f"  delegations {what} {len(found)}")
            for delegation in found:
                self.stdout.write(f"    {delegation.delegate.username} ({delegation.role})")


def find_user(argument: str, username: str) -> User:
    user = User.objects.find_by_identifier(username)
    if user is None:
        raise CommandError(f"{argument}: There is no user with this username.")
    return user
