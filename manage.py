#!/usr/bin/env python3
"""The project's command line. On a fresh machine it makes .venv first and goes on in it."""

import os
import sys


def main() -> None:
    # This file must be readable to every Python 3, also to those it refuses: nothing newer than Python 3.0.
    if sys.version_info < (3, 11):  # noqa: UP036
        sys.exit("manage.py: Python 3.11 or newer is needed, and this is %d.%d; try python3.11." % sys.version_info[:2])  # noqa: UP031
    from healthcare import first_run

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "healthcare.settings")
    try:
        first_run.enter_virtualenv()
        prepare_command()
        run_command()
    except first_run.SetupError as error:
        sys.exit("manage.py: %s" % error)  # noqa: UP031
    except KeyboardInterrupt:
        sys.exit(130)  # 128 + SIGINT, as a shell reports it


def prepare_command() -> None:
    """What must be there before Django reads the settings."""
    from healthcare import first_run

    command, arguments = sys.argv[1:2], sys.argv[2:]
    if command == ["serve"] and not {"-h", "--help"}.intersection(arguments):
        first_run.write_env_file()
    if command == ["test"]:
        import healthcare.tests.pytest_environment  # noqa: F401 (tests bring their settings and need no .env)

        sys.argv.insert(2, "--")  # everything after it is pytest's


def run_command() -> None:
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
    from django.db import OperationalError

    try:
        if sys.argv[1:2] not in ([], ["help"], ["--help"], ["version"], ["--version"]):
            settings.INSTALLED_APPS  # noqa: B018 (some commands would go on without settings)
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit("manage.py: %s" % error)  # noqa: UP031
    except OperationalError as error:
        sys.exit("manage.py: %s" % explain(error))  # noqa: UP031


def explain(error: Exception) -> str:
    """One sentence for a database that cannot be reached; every other error of it is raised again."""
    from django.db import connection

    from healthcare.embedded.base import EmbeddedOperationalError

    if isinstance(error, EmbeddedOperationalError):
        return str(error)
    if getattr(error.__cause__, "pgcode", None):
        raise error  # the server answered: this is a fault of ours
    first_line = (str(error).strip().splitlines() or ["no answer"])[0]
    password = connection.settings_dict["PASSWORD"]
    if password:
        first_line = first_line.replace(password, "***")
    return "the database that DATABASE_URL names cannot be reached: " + first_line


if __name__ == "__main__":
    main()
