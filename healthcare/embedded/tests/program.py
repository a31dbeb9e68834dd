"""A program that uses an embedded server, told on stdin what to do: `python -m healthcare.embedded.tests.program URL`.

Each line is answered by one line: `connect` opens a new connection and gives the server's start time, `ask SQL` gives
the first row, `fork` leaves a child behind and gives its process id, `leave` stops being a user. It ends with stdin.
"""

import os
import signal
import sys

import dj_database_url
import django
from django.conf import settings
from django.db import OperationalError, connection

from healthcare.embedded.base import stop_if_last

STARTED = "SELECT extract(epoch FROM pg_postmaster_start_time())"


def ask(sql: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return " ".join(str(value) for value in cursor.fetchone())


def fork() -> str:
    connection.close()
    child = os.fork()
    if not child:
        signal.pause()
    return str(child)


def answer(line: str) -> str:
    command, _, rest = line.partition(" ")
    try:
        if command == "connect":
            connection.close()
            return "started " + ask(STARTED)
        if command == "ask":
            return ask(rest)
        if command == "fork":
            return fork()
        stop_if_last()
        return "left"
    except OperationalError as error:
        connection.close()
        return f"{type(error).__name__}: {error}".replace("\n", " ")


def main() -> None:
    settings.configure(DATABASES={"default": dj_database_url.parse(sys.argv[1])}, USE_TZ=True)
    django.setup()
    for line in sys.stdin:
        print(answer(line.rstrip("\n")), flush=True)


if __name__ == "__main__":
    main()
