"""Making .venv with uv, or with venv and pip.

A stamp says that the folder is ours from the moment it exists, and when it is finished for which requirements: what a
killed installation leaves is told from a whole environment and from one that somebody made.
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

from healthcare.first_run.failure import CannotRunError, from_output, say

UNFINISHED = "unfinished\n"


def python_of(venv: Path) -> Path:
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"


def stamp_of(venv: Path) -> Path:
    return venv / "made-by-manage.py.txt"


def is_ours(venv: Path) -> bool:
    """An empty folder counts: a process killed right after making it leaves one."""
    return stamp_of(venv).exists() or (venv.is_dir() and not any(venv.iterdir()))


def is_finished(venv: Path, project: Path, version: str) -> bool:
    return stamped(venv) == [fingerprint(project), version]


def stamped(venv: Path) -> list[str]:
    """What the stamp says: the hash of requirements.txt and the version of Python, or something else."""
    with suppress(OSError, UnicodeDecodeError):
        return stamp_of(venv).read_text(encoding="utf-8").split()
    return []


def fingerprint(project: Path) -> str:
    return hashlib.sha256((project / "requirements.txt").read_bytes()).hexdigest()


def install(venv: Path, project: Path) -> None:
    """Bring .venv up to requirements.txt; anything but a finished one of this Python is made anew."""
    uv = find_uv()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    renewed = stamped(venv)[1:] == [version] and python_of(venv).exists()
    if not renewed:
        if not uv:
            require_ensurepip()
        clear(venv)
        say(f"Making .venv with {'uv' if uv else 'venv'}…")
        venv.mkdir(exist_ok=True)
    stamp_of(venv).write_text(UNFINISHED, encoding="utf-8")
    if not renewed:
        create = [uv, "venv", "--allow-existing", "--python", sys.executable] if uv else [sys.executable, "-m", "venv"]
        run([*create, str(venv)], project)
    count = len(re.findall(r"^[A-Za-z]", (project / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE))
    say(f"Installing the {count} packages of requirements.txt with {'uv' if uv else 'pip, which takes a minute'}…")
    python = str(python_of(venv))
    installer = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install", *PIP_OPTIONS]
    wanted = fingerprint(project)
    run([*installer, "-r", str(project / "requirements.txt")], project)
    stamp_of(venv).write_text(f"{wanted} {version}\n", encoding="utf-8")


PIP_OPTIONS = ["--quiet", "--no-input", "--disable-pip-version-check"]


def clear(venv: Path) -> None:
    """Remove .venv under another name first: a half-removed one must not look like somebody's own."""
    old = venv.with_name(".venv.old")
    shutil.rmtree(old, ignore_errors=True)
    if venv.exists():
        venv.rename(old)
        shutil.rmtree(old, ignore_errors=True)


def find_uv() -> str | None:
    """uv, if it is on PATH and runs (pyenv's stand-in for it may not)."""
    uv = shutil.which("uv")
    if uv and subprocess.run([uv, "--version"], capture_output=True).returncode == 0:  # noqa: S603
        return uv
    return None


def require_ensurepip() -> None:
    if importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv"):
        return
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if shutil.which("apt-get"):
        raise CannotRunError(f"this Python cannot make environments; run `sudo apt-get install python{version}-venv`.")
    raise CannotRunError(f"this Python {version} comes without ensurepip; install its venv package, or uv.")


def run(command: list[str], project: Path) -> None:
    done = subprocess.run(  # noqa: S603 (no shell)
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    if done.returncode:
        raise from_output(done.stdout, project)
