"""A client of an embedded server that reads commands from stdin: `python -m <this module> URL`.

Each command is answered by one line. `connect` opens a new connection and prints the server's start time, `query SQL`
prints the first row, `fork` leaves a child process running and prints its id, and `detach` stops being a client. The
program ends at the end of stdin.
"""

import os
import signal
import sys

import dj_database_url
import django
from django.conf import settings
from django.db import OperationalError, connection

from healthcare.embedded.base import release_servers

STARTED = "SELECT extract(epoch FROM pg_postmaster_start_time())"


def query_first_row(sql: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return " ".join(str(value) for value in cursor.fetchone())


def fork() -> str:
    connection.close()
    child = os.fork()
    if not child:
        signal.pause()
    return str(child)


def reply_to(line: str) -> str:
    command, _, rest = line.partition(" ")
    try:
        if command == "connect":
            connection.close()
            return "started " + query_first_row(STARTED)
        if command == "query":
            return query_first_row(rest)
        if command == "fork":
            return fork()
        release_servers()
        return "detached"
    except OperationalError as error:
        connection.close()
        return f"{type(error).__name__}: {error}".replace("\n", " ")


def main() -> None:
    settings.configure(DATABASES={"default": dj_database_url.parse(sys.argv[1])}, USE_TZ=True)
    django.setup()
    for line in sys.stdin:
        print(reply_to(line.rstrip("\n")), flush=True)


if __name__ == "__main__":
    main()
