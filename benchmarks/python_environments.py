"""The virtual environment of the benchmarks, benchmarks/.venv: packages of the product, references and measurement."""

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


def benchmark_requirements_digest() -> str:
    digest = hashlib.sha256(sys.version.encode())
    for path in REQUIREMENTS:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def enter_environment(references: bool) -> None:
    """Returns inside the finished environment. Elsewhere it creates that and runs the same command again inside it.

    Without the references the product's own environment is enough.
    """
    if Path(sys.prefix).resolve() == VENV.resolve() or (not references and find_spec("granian")):
        return
    if not (STAMP.exists() and STAMP.read_text(encoding="ascii") == benchmark_requirements_digest()):
        print(f"Installing the packages of the references into {VENV}, which takes a minute…", file=sys.stderr)
        venv.create(VENV, clear=True, with_pip=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(REQUIREMENTS[0])]
        subprocess.run([VENV / "bin" / "python", *install], check=True)
        STAMP.write_text(benchmark_requirements_digest(), encoding="ascii")
    python = str(VENV / "bin" / "python")
    os.execv(python, [python, *sys.orig_argv[1:]])  # noqa: S606
