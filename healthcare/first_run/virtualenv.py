"""The environment in .venv: found, made, mended, entered. One that somebody else made is left alone."""

import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from healthcare.first_run import installer
from healthcare.first_run.failure import CannotRunError, from_os_error, say

PROJECT = Path(__file__).resolve().parent.parent.parent
# Set while the program goes on in .venv, so that one that does not work cannot start it for ever.
ENTERING = "HEALTHCARE_ENTERING_VENV"
THIS_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def enter_environment(project: Path = PROJECT) -> None:
    """Return with every package in reach: in the interpreter at hand, or after going on in .venv.

    Raises CannotRunError when neither can be had.
    """
    venv = project / ".venv"
    entered = os.environ.pop(ENTERING, None)
    active = sys.prefix != sys.base_prefix
    if active and Path(sys.prefix).resolve() == venv.resolve() and installer.is_ours(venv):
        if installer.is_finished(venv, project, THIS_VERSION):
            return
        if not entered:
            go_on_with(Path(sys._base_executable), entering=False)  # type: ignore[attr-defined]
    if not missing_packages(project):
        return
    if active and not installer.is_ours(Path(sys.prefix)):
        raise CannotRunError("this environment lacks packages; run `pip install -r requirements.txt` in it.")
    if entered:
        raise CannotRunError(f"{venv} does not work; remove it and try again.")
    try:
        with one_at_a_time(project):
            make_ready(venv, project)
    except OSError as error:
        raise from_os_error(error, project) from error
    go_on_with(installer.python_of(venv), entering=True)


def make_ready(venv: Path, project: Path) -> None:
    """Make, mend or update .venv if it is ours, or if there is none."""
    if venv.exists() and not installer.is_ours(venv):
        if not installer.python_of(venv).exists():
            raise CannotRunError(f"{venv} is not a working environment; remove it and try again.")
        return
    if not installer.is_finished(venv, project, version_of(venv)):
        installer.install(venv, project)


def version_of(venv: Path) -> str:
    """The version of Python that .venv runs now, which an upgrade of the system may have changed."""
    with suppress(OSError, subprocess.CalledProcessError):
        command = [str(installer.python_of(venv)), "-S", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
        return done.stdout.strip()
    return "none"


def missing_packages(project: Path) -> list[str]:
    """Names in requirements.txt that this interpreter does not have."""
    text = (project / "requirements.txt").read_text(encoding="utf-8")
    missing = []
    for name in re.findall(r"^([A-Za-z0-9._-]+)", text, re.MULTILINE):
        try:
            importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    return missing


def go_on_with(python: Path, *, entering: bool) -> None:
    """Replace this process by the same command line in another interpreter."""
    if entering:
        os.environ[ENTERING] = "1"
    try:
        os.execv(python, [str(python), *sys.orig_argv[1:]])  # noqa: S606 (no shell wanted)
    except OSError as error:
        raise CannotRunError(f"{python} cannot be started ({error.strerror}); remove .venv and try again.") from error


@contextmanager
def one_at_a_time(project: Path) -> Iterator[None]:
    """Two first runs at once wait for each other; the lock ends with the process that holds it."""
    try:
        import fcntl
    except ImportError:  # no such lock on Windows
        yield
        return
    folder = os.open(project, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another manage.py that is installing the packages…")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
