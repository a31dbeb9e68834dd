"""What stops a first run, in one sentence, and its progress."""

import errno
import shutil
import sys
from pathlib import Path

SIGNS = {
    errno.ENOSPC: ("No space left on device", "there is no space left on the disk that holds {}; free some"),
    errno.EDQUOT: ("Disk quota exceeded", "the quota of the disk that holds {} is used up; free some space"),
    errno.EACCES: ("Permission denied", "this account may not write in {}; give it that right"),
    errno.EPERM: ("Operation not permitted", "this account may not write in {}; give it that right"),
    errno.EROFS: ("Read-only file system", "{} lies on a read-only file system; copy the project elsewhere"),
}
LEAST_SPACE = 32 * 1024 * 1024  # bytes


class CannotRunError(Exception):
    """The project cannot be started; the text is one sentence that says what to do."""


def from_os_error(error: OSError, folder: Path) -> CannotRunError:
    _, reason = SIGNS.get(error.errno or 0, ("", f"{{}} cannot be used ({error.strerror}); mend that"))
    return CannotRunError(f"{reason.format(folder)} and try again.")


def from_output(output: str, folder: Path) -> CannotRunError:
    """The sentence for what an installer printed before it gave up."""
    for sign, reason in SIGNS.values():
        if sign in output:
            return CannotRunError(f"{reason.format(folder)} and try again.")
    if shutil.disk_usage(folder).free < LEAST_SPACE:  # ensurepip keeps the reason for itself
        return from_os_error(OSError(errno.ENOSPC, ""), folder)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if line.lower().startswith(("error", "×", "fatal"))]
    last = (telling or lines or ["it said nothing"])[-1].rstrip(".")
    return CannotRunError(f"the packages could not be installed ({last}); is the package index in reach?")


def say(text: str) -> None:
    """Progress goes to stderr, so that the output of `dumpdata` and its like stays clean."""
    print(text, file=sys.stderr, flush=True)
