"""The environment of the benchmarks, benchmarks/.venv: the product's packages, the references', and what measures."""

import hashlib
import os
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
STAMP = VENV / "finished.txt"
REQUIREMENTS = (HERE / "requirements.txt", HERE.parent / "requirements.txt")


def wanted() -> str:
    digest = hashlib.sha256(sys.version.encode())
    for path in REQUIREMENTS:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def enter(references: bool) -> None:
    """Return in the finished environment: at once, or after making it and going on with the same command in it.
    Without the references the product's own will do."""
    if Path(sys.prefix).resolve() == VENV.resolve() or (not references and find_spec("granian")):
        return
    if not (STAMP.exists() and STAMP.read_text(encoding="ascii") == wanted()):
        print(f"Installing the packages of the references into {VENV}, which takes a minute…", file=sys.stderr)
        venv.create(VENV, clear=True, with_pip=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(REQUIREMENTS[0])]
        subprocess.run([VENV / "bin" / "python", *install], check=True)
        STAMP.write_text(wanted(), encoding="ascii")
    python = str(VENV / "bin" / "python")
    os.execv(python, [python, *sys.orig_argv[1:]])  # noqa: S606
