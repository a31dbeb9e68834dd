"""What commands that change or remove records share: the reason, who runs them, and the confirmation."""

import os
import pwd

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser, OutputWrapper

from healthcare.model_fields import LineField, one_visible_line

REASON = LineField(max_length=500, validators=[one_visible_line])


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
    """One visible line. Raises CommandError for another text."""
    try:
        return str(REASON.clean(text.strip(), None))
    except ValidationError as error:
        raise CommandError(f"--reason: {' '.join(error.messages)}") from error


def operating_system_account() -> str:
    """Who runs this, as the operating system knows it; the number where the account has no name, as in a container."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
