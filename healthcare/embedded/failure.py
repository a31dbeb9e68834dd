"""What the embedded server says when it cannot go on: always one sentence that a person can act on."""

import errno
from pathlib import Path

NO_SPACE = "there is no space left on the disk that holds {folder}; free some and try again"
NO_PERMISSION = "this account may not write in {folder}; give it that right, or set DATABASE_URL"
READ_ONLY = "{folder} lies on a read-only file system; set DATABASE_URL=embedded:///some/writable/folder"

# What PostgreSQL's own messages say under LC_ALL=C, which its programs are started with.
SIGNS = {
    "No space left on device": NO_SPACE,
    "Disk quota exceeded": NO_SPACE,
    "Permission denied": NO_PERMISSION,
    "Read-only file system": READ_ONLY,
}
CODES = {
    errno.ENOSPC: NO_SPACE,
    errno.EDQUOT: NO_SPACE,
    errno.EACCES: NO_PERMISSION,
    errno.EPERM: NO_PERMISSION,
    errno.EROFS: READ_ONLY,
}


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot be used; the text is one sentence."""


def from_os_error(error: OSError, folder: Path) -> EmbeddedError:
    reason = CODES.get(error.errno or 0, f"{{folder}} cannot be used: {(error.strerror or 'unknown error').lower()}")
    return EmbeddedError("The embedded PostgreSQL cannot start: " + reason.format(folder=folder) + ".")


def from_output(output: str, folder: Path, doing: str) -> EmbeddedError:
    """The sentence for what a program of PostgreSQL printed before it gave up."""
    for sign, reason in SIGNS.items():
        if sign in output:
            return EmbeddedError("The embedded PostgreSQL cannot start: " + reason.format(folder=folder) + ".")
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if any(word in line for word in ("error:", "FATAL:", "PANIC:", "fatal:"))]
    last = (telling or lines or ["it said nothing"])[-1]
    return EmbeddedError(f"The embedded PostgreSQL in {folder} could not be {doing}: {last.rstrip('.')}.")
