#!/usr/bin/env python3
"""The project's command line. On the first run it creates .venv and re-executes itself there."""

import os
import signal
import sys

# Every Python 3 must be able to parse this file, also those it refuses: no syntax newer than Python 3.0.


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036
        sys.exit("manage.py: Python 3.11 or newer is needed, and this is %d.%d; try python3.11." % sys.version_info[:2])  # noqa: UP031
    open_standard_streams()
    if os.getpid() == 1:  # in a container: the kernel ignores a signal that has no handler
        signal.signal(signal.SIGTERM, end_by_signal)
    from healthcare import first_run

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "healthcare.settings")
    try:
        first_run.enter_virtualenv(tests=sys.argv[1:2] == ["test"])
        prepare_command()
        run_command()
    except first_run.SetupError as error:
        sys.exit("manage.py: %s" % error)  # noqa: UP031
    except KeyboardInterrupt:
        sys.exit(130)  # 128 + SIGINT, as a shell reports it


def open_standard_streams() -> None:
    """Open those that the caller has closed: else Python has no `sys.stdout`, and the next file gets its number."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115 (stays open)
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115


def end_by_signal(number: int, frame: object) -> None:
    print("manage.py: ended by SIGTERM.", file=sys.stderr, flush=True)
    sys.exit(128 + number)  # as a shell reports it


def prepare_command() -> None:
    """Set up what the command needs before Django reads the settings."""
    from healthcare import first_run

    command, arguments = sys.argv[1:2], sys.argv[2:]
    if command:
        os.environ["PGAPPNAME"] = "manage.py %s" % command[0]  # noqa: UP031
    if command == ["serve"] and not {"-h", "--help"}.intersection(arguments):
        first_run.write_env_file()
        from healthcare.operations.output import format_output

        format_output(first_run.PROJECT)
    if command == ["test"]:
        import healthcare.tests.pytest_environment  # noqa: F401 (tests bring their settings and need no .env)

        sys.argv.insert(2, "--")  # pass all arguments after it to pytest


def run_command() -> None:
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
    from django.db import Error

    try:
        if sys.argv[1:2] not in ([], ["help"], ["--help"], ["version"], ["--version"]):
            settings.INSTALLED_APPS  # noqa: B018 (some commands would continue without settings)
        execute_from_command_line(sys.argv)
        sys.stdout.flush()
    except ImproperlyConfigured as error:
        sys.exit("manage.py: %s" % error)  # noqa: UP031
    except UnicodeEncodeError:
        if is_utf_8(" ".join(sys.argv)):
            raise
        sys.exit("manage.py: an argument is not in UTF-8; write it again.")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python writes the rest when it exits
        sys.exit("manage.py: the program that reads the output has ended, so this has ended, too.")
    except Error as error:
        sys.exit("manage.py: %s" % describe_database_failure(error))  # noqa: UP031


def is_utf_8(text: str) -> bool:
    """Whether all bytes of a command line were UTF-8: Python has surrogates for the others."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def describe_database_failure(error: Exception) -> str:
    """Return one sentence if the database cannot be reached, or not be used as it is. Raise every other error again."""
    from django.db import OperationalError, connection

    from healthcare.embedded.base import EmbeddedOperationalError
    from healthcare.postgresql.errors import sqlstate_of

    if isinstance(error, EmbeddedOperationalError):
        return str(error)
    sqlstate = sqlstate_of(error) or ""
    if sqlstate == "25006":
        return "the database can only be read; run this on the primary, or end its default_transaction_read_only."
    if sqlstate == "53100":
        return "the disk of the database is full."
    if sqlstate in {"42P01", "42703"} and sys.argv[1:2] != ["migrate"]:
        return "the database lacks a table or a column of this version; run `manage.py migrate`."
    if sqlstate or not isinstance(error, OperationalError):
        raise error  # the server answered: the query is at fault, not the connection
    lines = str(error).strip().splitlines() or ["no answer"]
    attempts = [line for line in lines if line.startswith(("connection to server", "could not translate"))]
    text = "; ".join(attempts or lines[:1])
    password = connection.settings_dict["PASSWORD"]
    if password:
        text = text.replace(password, "***")
    return "the database that DATABASE_URL names cannot be reached: " + text


if __name__ == "__main__":
    main()
