"""postmaster.pid, which PostgreSQL writes and which a crash leaves behind: never believed on its own."""

import signal
from pathlib import Path

import psutil

from healthcare.embedded.failure import EmbeddedError
from healthcare.embedded.home import Home


def written_id(data: Path) -> int | None:
    """The process id in the file; None when there is no file, 0 when it cannot be understood."""
    try:
        lines = (data / "postmaster.pid").read_bytes().splitlines()
    except FileNotFoundError:
        return None
    number = lines[0].strip() if lines else b""
    return int(number) if number.isdigit() and len(number) < 12 else 0


def find(data: Path) -> psutil.Process | None:
    """The live PostgreSQL that the file names, known by the folder it works in and not by its number."""
    number = written_id(data)
    if not number:
        return None
    try:
        process = psutil.Process(number)
        if process.name().startswith("postgres") and Path(process.cwd()) == data:
            return process
    except psutil.Error:
        pass
    return None


def clear_stale_file(home: Home) -> None:
    """Remove a postmaster.pid that would stop a start. Call it only while holding the server's lock.

    The lock says that no process of ours lives, so the file is a crash's leftover, unless somebody started a server
    on this folder by hand. A file with the id of a dead process stays: PostgreSQL then also looks at the shared memory
    that it names.
    """
    number = written_id(home.data)
    if number is None:
        return
    if find(home.data):
        raise EmbeddedError(
            f"Another PostgreSQL (process {number}) already runs on {home.data}; stop it, or use it with DATABASE_URL."
        )
    if number == 0 or psutil.pid_exists(number):
        (home.data / "postmaster.pid").unlink(missing_ok=True)


def stop(data: Path) -> None:
    """Ask the server for a fast shutdown: it ends the sessions and writes everything out. Signals no other process."""
    process = find(data)
    if process:
        process.send_signal(signal.SIGINT)
