"""Checks that a command line of a deployment file is one that `manage.py` takes."""

from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand


def parse_command(words: list[str]) -> str:
    """The command that these words after `manage.py` run. Fails for a command or an option that does not exist."""
    name, *arguments = words
    app = get_commands()[name]
    command = app if isinstance(app, BaseCommand) else load_command_class(app, name)
    command.create_parser("manage.py", name).parse_args(arguments)
    return name
