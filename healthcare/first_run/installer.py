"""Create .venv with uv, or with venv and pip, and install the packages of requirements.lock with their hashes.

A stamp file marks a .venv as managed by this module from its creation on. Its content says for which requirements and
which Python the installation finished. That tells an interrupted installation from a complete one, and both from an
environment that the user created.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from healthcare.first_run.errors import SetupError, print_progress, setup_error_from_installer_output

UNFINISHED = "unfinished\n"
TESTS_SECTION = "# The tests\n"  # of requirements.txt; the last one
PIP_OPTIONS = ["--quiet", "--no-input", "--disable-pip-version-check"]


def virtualenv_python(venv: Path) -> Path:
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"


def stamp_path(venv: Path) -> Path:
    return venv / "managed-by-manage.py.txt"


def is_managed(venv: Path) -> bool:
    """Whether this module created the folder. An empty one counts: a process killed after mkdir leaves it so."""
    return stamp_path(venv).exists() or (venv.is_dir() and not any(venv.iterdir()))


def is_up_to_date(venv: Path, project: Path, python_version: str) -> bool:
    return read_stamp(venv) == [requirements_digest(project), python_version]


def read_stamp(venv: Path) -> list[str]:
    """Return [digest of the requirements, version of Python], or something else if the installation is unfinished."""
    with suppress(OSError, UnicodeDecodeError):
        return stamp_path(venv).read_text(encoding="utf-8").split()
    return []


def requirements_digest(project: Path) -> str:
    files = (project / "requirements.txt", project / "requirements.lock")
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def required_names(file: Path, *, tests: bool = True) -> list[str]:
    """Return the packages that a requirements file or a lock file names, normalized (PEP 503).

    Without `tests`, leave out the tests' section: requirements-production.lock has none of its packages.
    """
    text = file.read_text(encoding="utf-8")
    if not tests:
        text = text.partition(TESTS_SECTION)[0]
    names = re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)", text, re.MULTILINE)
    return [re.sub(r"[-_.]+", "-", name).lower() for name in names]


def check_lock_file(project: Path) -> None:
    """Raise SetupError if requirements.txt names a package that requirements.lock lacks."""
    locked = required_names(project / "requirements.lock")
    unlocked = [name for name in required_names(project / "requirements.txt") if name not in locked]
    if unlocked:
        raise SetupError(f"requirements.lock lacks {', '.join(unlocked)} of requirements.txt; run `scripts/lock`.")


def install_packages(venv: Path, project: Path) -> None:
    """Bring .venv up to requirements.lock. Recreate it unless it is an environment of this version of Python."""
    check_lock_file(project)
    uv = find_uv()
    python_version = f"{sys.version_info.major}.{sys.version_info.minor}"
    reusable = read_stamp(venv)[1:] == [python_version] and virtualenv_python(venv).exists()
    if not reusable:
        if not uv:
            require_ensurepip()
        remove_virtualenv(venv)
        print_progress(f"Creating .venv with {'uv' if uv else 'venv'}…")
        venv.mkdir(exist_ok=True)
    stamp_path(venv).write_text(UNFINISHED, encoding="utf-8")
    if not reusable:
        create = [uv, "venv", "--allow-existing", "--python", sys.executable] if uv else [sys.executable, "-m", "venv"]
        run_installer([*create, str(venv)], project)
    lock = project / "requirements.lock"
    count = len(required_names(lock))
    print_progress(
        f"Installing the {count} packages of requirements.lock with {'uv' if uv else 'pip, which takes a minute'}…"
    )
    python = str(virtualenv_python(venv))
    installer = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install", *PIP_OPTIONS]
    digest = requirements_digest(project)  # read first: a file that changes meanwhile leads to another installation
    run_installer([*installer, "--require-hashes", "-r", str(lock)], project)
    stamp_path(venv).write_text(f"{digest} {python_version}\n", encoding="utf-8")


def remove_virtualenv(venv: Path) -> None:
    """Rename .venv before removing it: a half-removed one must not look like an environment of the user's own."""
    old = venv.with_name(".venv.old")
    shutil.rmtree(old, ignore_errors=True)
    if venv.exists():
        venv.rename(old)
        shutil.rmtree(old, ignore_errors=True)


def find_uv() -> str | None:
    """Return the path of uv if it is on PATH and runs. pyenv puts a shim there that may fail."""
    uv = shutil.which("uv")
    if uv and subprocess.run([uv, "--version"], capture_output=True).returncode == 0:  # noqa: S603
        return uv
    return None


def require_ensurepip() -> None:
    if importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv"):
        return
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if shutil.which("apt-get"):
        raise SetupError(f"this Python cannot create environments; run `sudo apt-get install python{version}-venv`.")
    raise SetupError(f"this Python {version} comes without ensurepip; install its venv package, or uv.")


def run_installer(command: list[str], project: Path) -> None:
    completed = subprocess.run(  # noqa: S603 (no shell)
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    if completed.returncode:
        raise setup_error_from_installer_output(completed.stdout, project)
