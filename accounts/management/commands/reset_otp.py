"""`manage.py reset_otp USERNAME --reason TEXT`: remove the second factor of a user who has lost it."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import User
from accounts.second_factor.rules import FACTOR_RESET, remove_factor
from healthcare.operations.command_options import checked_reason, operating_system_account


class Command(BaseCommand):
    help = (
        "Remove the second factor of a user who has lost the authenticator app and the recovery codes. The password "
        "alone then logs the user in. The security log says when, by whom and why, and the user gets an e-mail."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", help="The username or the e-mail.")
        parser.add_argument(
            "--reason",
            required=True,
            metavar="TEXT",
            help="The reason, one line for the security log, such as the number of the request. Write no name in it.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        reason = checked_reason(options["reason"])
        user = User.objects.find_by_identifier(options["username"])
        if user is None:
            raise CommandError("There is no user with this username.")
        if not remove_factor(None, user, FACTOR_RESET, by=operating_system_account(), reason=reason):
            raise CommandError("This user has no second factor.")
        self.stdout.write("Removed the second factor; the password alone logs this user in.")
