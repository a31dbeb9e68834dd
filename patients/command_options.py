"""What the commands that erase, hand over or hold patients share: the reason, who runs them, and the confirmation."""

import os
import pwd

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser, OutputWrapper

from accounts.models import User
from patients.models import ErasureReceipt


def add_confirmation_options(parser: CommandParser, dry_run_help: str) -> None:
    parser.add_argument("--dry-run", action="store_true", help=dry_run_help)
    parser.add_argument(
        "--yes", "--noinput", "--no-input", action="store_true", dest="yes", help="Do not ask for confirmation."
    )


def confirm(stdout: OutputWrapper, name: str, *, to: str, done: str) -> None:
    """Ask to type the name. Raises CommandError for another answer. `to` and `done` say what: "erase it", "erased"."""
    stdout.write(f"Type {name} to {to}: ", ending="")
    stdout.flush()
    try:
        answer = input()
    except EOFError as error:
        raise CommandError(f"Nobody to ask, nothing was {done}; give --yes to go on without asking.") from error
    if answer.strip() != name:
        raise CommandError(f"Nothing was {done}.")


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
