"""A file that appears under its name when it is complete, and never replaces another one."""

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from healthcare.operations.backup_errors import BackupError

NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def check_target(target: Path) -> None:
    """Raises BackupError if the file exists, or cannot be created there."""
    if os.path.lexists(target):
        raise exists(target)
    if not target.parent.is_dir():
        raise BackupError(f"{target.parent} is not a folder; create it first.")


def exists(target: Path) -> BackupError:
    return BackupError(f"{target} exists; a backup writes a new file, so choose another name.")


@contextmanager
def unfinished_file(target: Path) -> Iterator[IO[bytes]]:
    """A new file beside the target, of mode 0600. At the end of the block it is written to disk and gets the target's
    name; if the block raises, it is removed. The file of a process that was killed is removed by the next one.

    Raises BackupError if the target exists by then.
    """
    prefix = f".{target.name}.unfinished-"
    remove_abandoned(target.parent, prefix)
    path = target.with_name(prefix + secrets.token_hex(8))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(descriptor, 0o600)  # the umask may have removed permissions
            yield file
            file.flush()
            os.fsync(descriptor)
            try:
                name_without_replacing(path, target)
            except FileExistsError as error:
                raise exists(target) from error
    finally:
        with suppress(FileNotFoundError):
            path.unlink()
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names of the files in the folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def name_without_replacing(path: Path, target: Path) -> None:
    """Give the file at `path` the target's name too, or instead. Raises FileExistsError if the target exists."""
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        # A file system without hard links: reserve the name, then replace what only this process has created.
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        path.replace(target)


def remove_abandoned(folder: Path, prefix: str) -> None:
    """Remove unfinished files that no process has locked."""
    for entry in folder.iterdir():
        if not entry.name.startswith(prefix):
            continue
        with suppress(OSError):
            descriptor = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                entry.unlink()
            finally:
                os.close(descriptor)
