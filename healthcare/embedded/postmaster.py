"""postmaster.pid, which PostgreSQL writes and a crash leaves behind. It is always checked against the live process."""

import signal
from pathlib import Path

import psutil

from healthcare.embedded.errors import EmbeddedError
from healthcare.embedded.home import Home


def read_postmaster_pid(data: Path) -> int | None:
    """Return the process id in the file, None if there is no file, and 0 if its content is invalid."""
    try:
        lines = (data / "postmaster.pid").read_bytes().splitlines()
    except FileNotFoundError:
        return None
    number = lines[0].strip() if lines else b""
    return int(number) if number.isdigit() and len(number) < 12 else 0


def find_postmaster(data: Path) -> psutil.Process | None:
    """Return the live PostgreSQL that the file names, identified by its working directory: ids are reused."""
    number = read_postmaster_pid(data)
    if not number:
        return None
    try:
        process = psutil.Process(number)
        if process.name().startswith("postgres") and Path(process.cwd()) == data:
            return process
    except psutil.Error:
        pass
    return None


def remove_stale_pid_file(home: Home) -> None:
    """Remove a postmaster.pid that would prevent a start. The caller must hold the server lock.

    With that lock no process of our server is alive, so the file is left from a crash, unless a user started a server
    on this data directory. A file with the id of a dead process stays, because PostgreSQL also checks the shared memory
    that it names.
    """
    number = read_postmaster_pid(home.data)
    if number is None:
        return
    if find_postmaster(home.data):
        raise EmbeddedError(
            f"Another PostgreSQL (process {number}) already runs on {home.data}; stop it, or use it with DATABASE_URL."
        )
    if number == 0 or psutil.pid_exists(number):
        (home.data / "postmaster.pid").unlink(missing_ok=True)


def request_fast_shutdown(data: Path) -> None:
    """Request PostgreSQL's fast shutdown (SIGINT), which ends the sessions and writes a checkpoint."""
    process = find_postmaster(data)
    if process:
        process.send_signal(signal.SIGINT)
