"""Errors of the embedded server, each one sentence that says what to do."""

import errno
from pathlib import Path

NO_SPACE = "there is no space left on the disk that holds {folder}; free some and try again"
NO_PERMISSION = "this account may not write in {folder}; give it that right, or set DATABASE_URL"
READ_ONLY = "{folder} lies on a read-only file system; set DATABASE_URL=embedded:///some/writable/folder"

# Texts in the output of PostgreSQL's programs, which run with LC_ALL=C.
REASONS_BY_OUTPUT = {
    "No space left on device": NO_SPACE,
    "Disk quota exceeded": NO_SPACE,
    "Permission denied": NO_PERMISSION,
    "Read-only file system": READ_ONLY,
}
REASONS_BY_ERRNO = {
    errno.ENOSPC: NO_SPACE,
    errno.EDQUOT: NO_SPACE,
    errno.EACCES: NO_PERMISSION,
    errno.EPERM: NO_PERMISSION,
    errno.EROFS: READ_ONLY,
}


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot be used. The text is one sentence."""

    is_temporary = False


class EmbeddedBusyError(EmbeddedError):
    """It cannot be used yet: it is starting, recovering or stopping."""

    is_temporary = True


def embedded_error_from_os_error(error: OSError, folder: Path) -> EmbeddedError:
    reason = REASONS_BY_ERRNO.get(
        error.errno or 0, f"{{folder}} cannot be used: {(error.strerror or 'unknown error').lower()}"
    )
    return EmbeddedError("The embedded PostgreSQL cannot start: " + reason.format(folder=folder) + ".")


def embedded_error_from_output(output: str, folder: Path, failed_step: str) -> EmbeddedError:
    """Build the error from what a program of PostgreSQL printed before it failed, such as in the step "started"."""
    for sign, reason in REASONS_BY_OUTPUT.items():
        if sign in output:
            return EmbeddedError("The embedded PostgreSQL cannot start: " + reason.format(folder=folder) + ".")
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    error_lines = [line for line in lines if any(word in line for word in ("error:", "FATAL:", "PANIC:", "fatal:"))]
    last = (error_lines or lines or ["no output"])[-1]
    return EmbeddedError(f"The embedded PostgreSQL in {folder} could not be {failed_step}: {last.rstrip('.')}.")
