"""Errors of the first run, each one sentence that says what to do, and its progress messages."""

import errno
import shutil
import sys
from pathlib import Path

# By error number: the text that identifies it in an installer's output, and the message.
OS_FAILURES = {
    errno.ENOSPC: ("No space left on device", "there is no space left on the disk that holds {}; free some"),
    errno.EDQUOT: ("Disk quota exceeded", "the quota of the disk that holds {} is used up; free some space"),
    errno.EACCES: ("Permission denied", "this account may not write in {}; give it that right"),
    errno.EPERM: ("Operation not permitted", "this account may not write in {}; give it that right"),
    errno.EROFS: ("Read-only file system", "{} lies on a read-only file system; copy the project elsewhere"),
}
MINIMUM_FREE_BYTES = 32 * 1024 * 1024


class SetupError(Exception):
    """The project cannot be started. The text is one sentence that says what to do."""


def setup_error_from_os_error(error: OSError, folder: Path) -> SetupError:
    _, reason = OS_FAILURES.get(error.errno or 0, ("", f"{{}} cannot be used ({error.strerror}); repair it"))
    return SetupError(f"{reason.format(folder)} and try again.")


def setup_error_from_installer_output(output: str, folder: Path) -> SetupError:
    for sign, reason in OS_FAILURES.values():
        if sign in output:
            return SetupError(f"{reason.format(folder)} and try again.")
    if "DO NOT MATCH THE HASHES" in output or "Hash mismatch" in output:
        return SetupError(
            "a downloaded package does not have the hash that requirements.lock states; do not install it, and check "
            "the package index that this machine uses."
        )
    if shutil.disk_usage(folder).free < MINIMUM_FREE_BYTES:  # ensurepip does not print why it failed
        return setup_error_from_os_error(OSError(errno.ENOSPC, ""), folder)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    error_lines = [line for line in lines if line.lower().startswith(("error", "×", "fatal"))]
    last = (error_lines or lines or ["no output"])[-1].rstrip(".")
    return SetupError(f"the packages could not be installed ({last}); check that the package index can be reached.")


def print_progress(text: str) -> None:
    """Print to stderr, so that the output of a command such as `dumpdata` contains nothing else."""
    print(text, file=sys.stderr, flush=True)
