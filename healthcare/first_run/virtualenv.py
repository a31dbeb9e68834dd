"""Find, create, repair and enter .venv. An environment that the user created is never changed."""

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from healthcare.first_run import installer
from healthcare.first_run.errors import SetupError, print_progress, setup_error_from_os_error

PROJECT = Path(__file__).resolve().parent.parent.parent
# Set while the process re-executes itself in .venv, so that a broken .venv cannot cause an endless loop.
ENTERING_VARIABLE = "HEALTHCARE_ENTERING_VENV"
PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def enter_virtualenv(project: Path = PROJECT, *, tests: bool) -> None:
    """Return once every package can be imported: in this interpreter, or after re-executing in .venv.

    Only with `tests` must the packages of the tests be there. Raises SetupError if neither is possible.
    """
    venv = project / ".venv"
    entered = os.environ.pop(ENTERING_VARIABLE, None)
    active = sys.prefix != sys.base_prefix
    if active and Path(sys.prefix).resolve() == venv.resolve() and installer.is_managed(venv):
        if installer.is_up_to_date(venv, project, PYTHON_VERSION):
            return
        if not entered:
            execute_again(Path(sys._base_executable), entering=False)  # type: ignore[attr-defined]
    if not missing_packages(project, tests=tests):
        return
    if active and not installer.is_managed(Path(sys.prefix)):
        raise SetupError("this environment lacks packages; run `pip install -r requirements.txt` in it.")
    if entered:
        raise SetupError(f"{venv} does not work; remove it and try again.")
    try:
        with installation_lock(project):
            ensure_virtualenv(venv, project)
    except OSError as error:
        raise setup_error_from_os_error(error, project) from error
    execute_again(installer.virtualenv_python(venv), entering=True)


def ensure_virtualenv(venv: Path, project: Path) -> None:
    """Create, repair or update .venv, unless the user created it."""
    if venv.exists() and not installer.is_managed(venv):
        if not installer.virtualenv_python(venv).exists():
            raise SetupError(f"{venv} is not a working environment; remove it and try again.")
        return
    if not installer.is_up_to_date(venv, project, virtualenv_python_version(venv)):
        installer.install_packages(venv, project)


def virtualenv_python_version(venv: Path) -> str:
    """Return the version of Python that .venv runs now: an upgrade of the system may have changed it."""
    with suppress(OSError, subprocess.CalledProcessError):
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        command = [str(installer.virtualenv_python(venv)), "-S", "-c", code]
        completed = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
        return completed.stdout.strip()
    return "none"


def missing_packages(project: Path, *, tests: bool) -> list[str]:
    """Return the packages of requirements.txt that this interpreter does not have."""
    missing = []
    for name in installer.required_names(project / "requirements.txt", tests=tests):
        try:
            importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    return missing


def execute_again(python: Path, *, entering: bool) -> None:
    """Replace this process by the same command line in another interpreter."""
    if entering:
        os.environ[ENTERING_VARIABLE] = "1"
    try:
        os.execv(python, [str(python), *sys.orig_argv[1:]])  # noqa: S606 (no shell wanted)
    except OSError as error:
        raise SetupError(f"{python} cannot be started ({error.strerror}); remove .venv and try again.") from error


@contextmanager
def installation_lock(project: Path) -> Iterator[None]:
    """Let one process install at a time. The lock (flock) ends with the process that holds it."""
    try:
        import fcntl
    except ImportError:  # Windows has no flock
        yield
        return
    folder = os.open(project, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print_progress("Waiting for another manage.py that is installing the packages…")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
