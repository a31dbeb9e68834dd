"""Find the programs that a cluster runs, or say which command installs what is missing."""

import os
import shutil
import subprocess
from dataclasses import dataclass

from healthcare.embedded.binaries import Binaries, find_binaries
from healthcare.embedded.home import Home
from healthcare.project import PROJECT

PATRONI_ENVIRONMENT = PROJECT / ".patroni"
# The system's Python: for root, Patroni runs as another account, which may not reach root's own.
INSTALL_PATRONI = (
    "/usr/bin/python3 -m venv --clear .patroni && "
    ".patroni/bin/pip install --require-hashes -r deploy/patroni/requirements.lock"
)
DEBIAN_PACKAGES = {"etcd": "etcd-server", "haproxy": "haproxy"}  # by program


class ClusterError(Exception):
    """The cluster cannot run. The text is one sentence for the user."""


@dataclass(frozen=True)
class Programs:
    """The commands that a cluster runs."""

    etcd: str
    haproxy: str
    patroni: tuple[str, ...]
    postgresql: Binaries


def find_system_program(name: str) -> str | None:
    """The path of a program. Debian installs servers in /usr/sbin, which an account's PATH may lack."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def missing_programs() -> list[str]:
    """What has to be installed, each with the command that does it."""
    packages = {name: package for name, package in DEBIAN_PACKAGES.items() if find_system_program(name) is None}
    missing = [f"{name}: apt-get install {package}" for name, package in packages.items()]
    if not (PATRONI_ENVIRONMENT / "bin" / "patroni").exists():
        missing.append(f"patroni: {INSTALL_PATRONI}")
    return missing


def find_programs(home: Home) -> Programs:
    """Raises ClusterError with what is missing, and EmbeddedError without PostgreSQL."""
    missing = missing_programs()
    etcd, haproxy = find_system_program("etcd"), find_system_program("haproxy")
    if missing or etcd is None or haproxy is None:
        raise ClusterError("\n  ".join(["These programs are missing. Install them:", *missing]))
    return Programs(etcd, haproxy, patroni_command(home), find_binaries().accessible_to_server(home))


def patroni_command(home: Home) -> tuple[str, ...]:
    """The command that runs Patroni, from a copy of its environment if PostgreSQL's account cannot reach it."""
    environment = PATRONI_ENVIRONMENT
    if home.account and not home.account.can_enter(environment / "bin"):
        environment = home.folder / "patroni-environment"
        shutil.rmtree(environment, ignore_errors=True)
        shutil.copytree(PATRONI_ENVIRONMENT, environment, symlinks=True)
    command = (str(environment / "bin" / "python"), "-m", "patroni")
    options = home.account.process_options() if home.account else {}
    try:
        subprocess.run([*command, "--version"], capture_output=True, cwd="/", check=True, **options)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ClusterError(
            f"PostgreSQL's account cannot run {command[0]}; install it again:\n  {INSTALL_PATRONI}"
        ) from error
    return command
