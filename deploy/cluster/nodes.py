"""A node of the cluster: etcd, Patroni and the PostgreSQL that Patroni runs, as a machine of production has them."""

import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from deploy.cluster.programs import Programs
from healthcare.embedded.account import Account
from healthcare.embedded.cluster import POSTGRES_ENVIRONMENT, SUPERUSER
from healthcare.project import PROJECT

PATRONI_YML = PROJECT / "deploy" / "patroni" / "patroni.yml"
STOP_SECONDS = 30
PASSWORDS = ("superuser", "replication", "restapi", "etcd", "application")

Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Ports:
    """The ports of a node. Each node has its own, since all may share an address."""

    etcd: int
    etcd_peer: int
    postgresql: int
    patroni: int


@dataclass
class Node:
    """One machine of the cluster. `enter` is the prefix of commands that run in its network namespace."""

    name: str
    address: str
    ports: Ports
    folder: Path
    account: Account | None
    programs: Programs
    enter: tuple[str, ...] = ()
    etcd: Process | None = None
    patroni: Process | None = None

    @property
    def data(self) -> Path:
        return self.folder / "disk" / "data"

    @property
    def etcd_url(self) -> str:
        return f"http://{self.address}:{self.ports.etcd}"

    @property
    def etcd_peer_url(self) -> str:
        return f"http://{self.address}:{self.ports.etcd_peer}"

    @property
    def patroni_url(self) -> str:
        return f"http://{self.address}:{self.ports.patroni}"

    def create_folder(self) -> None:
        for folder in (self.folder, self.folder / "disk"):
            if not folder.exists():
                folder.mkdir(mode=0o700)
                if self.account:
                    self.account.take_ownership(folder)

    def start_etcd(self, members: "list[Node]") -> None:
        self.etcd = self.run(
            "etcd",
            [
                self.programs.etcd, "--name", self.name, "--data-dir", str(self.folder / "etcd"),
                "--listen-client-urls", self.etcd_url, "--advertise-client-urls", self.etcd_url,
                "--listen-peer-urls", self.etcd_peer_url, "--initial-advertise-peer-urls", self.etcd_peer_url,
                "--initial-cluster", ",".join(f"{node.name}={node.etcd_peer_url}" for node in members),
                "--initial-cluster-token", "healthcare", "--logger", "zap", "--log-level", "warn",
                "--auto-compaction-retention", "1h",
            ],
            {},
        )  # fmt: skip

    def start_patroni(self, members: "list[Node]", passwords: dict[str, str]) -> None:
        address = self.address
        own = {
            "NAME": self.name,
            "ETCD3_HOSTS": ",".join(f"{node.address}:{node.ports.etcd}" for node in members),
            "ETCD3_USERNAME": "root", "ETCD3_PASSWORD": passwords["etcd"],
            "RESTAPI_LISTEN": f"{address}:{self.ports.patroni}",
            "RESTAPI_CONNECT_ADDRESS": f"{address}:{self.ports.patroni}",
            "RESTAPI_USERNAME": "patroni", "RESTAPI_PASSWORD": passwords["restapi"],
            "POSTGRESQL_LISTEN": f"{address}:{self.ports.postgresql}",
            "POSTGRESQL_CONNECT_ADDRESS": f"{address}:{self.ports.postgresql}",
            "POSTGRESQL_DATA_DIR": str(self.data), "POSTGRESQL_BIN_DIR": str(self.programs.postgresql.folder),
            "POSTGRESQL_PGPASS": str(self.folder / "pgpass"),
            "SUPERUSER_USERNAME": SUPERUSER, "SUPERUSER_PASSWORD": passwords["superuser"],
            "REPLICATION_USERNAME": "replicator", "REPLICATION_PASSWORD": passwords["replication"],
        }  # fmt: skip
        environment = {f"PATRONI_{name}": value for name, value in own.items()}
        self.patroni = self.run("patroni", [*self.programs.patroni, str(self.folder / "patroni.yml")], environment)

    def write_patroni_yml(self) -> None:
        """Copy the configuration to where the account that runs PostgreSQL can read it."""
        copy = self.folder / "patroni.yml"
        shutil.copyfile(PATRONI_YML, copy)
        if self.account:
            self.account.take_ownership(copy)

    def run(self, name: str, command: list[str], environment: dict[str, str]) -> Process:
        return run_program(
            [*self.enter, *command], self.folder / f"{name}.log", environment, self.account, entered=bool(self.enter)
        )

    def ask_patroni(self, path: str) -> Any:
        """What Patroni's REST API answers with 200; None if it does not."""
        try:
            with urllib.request.urlopen(self.patroni_url + path, timeout=2) as response:
                return json.load(response)
        except (OSError, ValueError, urllib.error.URLError):
            return None

    def postmaster(self) -> psutil.Process | None:
        """PostgreSQL's parent process, if it runs."""
        with suppress(OSError, ValueError, IndexError, psutil.Error):
            process = psutil.Process(int((self.data / "postmaster.pid").read_text(encoding="ascii").split()[0]))
            if str(self.data) in process.cmdline():
                return process
        return None

    def processes(self) -> Iterator[psutil.Process]:
        """Every process of the node, parents first."""
        with suppress(psutil.Error):
            for started in (self.etcd, self.patroni):
                if started and started.poll() is None:
                    yield from with_children(psutil.Process(started.pid))
        postmaster = self.postmaster()
        if postmaster:
            yield from with_children(postmaster)

    def signal_all(self, number: signal.Signals) -> None:
        for process in list(self.processes()):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def kill(self) -> None:
        """End every process at once, as if the machine had lost its power."""
        self.signal_all(signal.SIGKILL)
        self.signal_all(signal.SIGKILL)  # of what was started meanwhile
        for started in (self.etcd, self.patroni):
            if started:
                started.wait(STOP_SECONDS)


def with_children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def run_program(
    command: list[str], log: Path, environment: dict[str, str], account: Account | None, *, entered: bool = False
) -> Process:
    """Run a program as PostgreSQL's account, in a session of its own, so that Ctrl-C does not reach it.

    It ends when this process does, where the system has setpriv. `entered`: the command changes the account itself.
    """
    setpriv = shutil.which("setpriv")
    if setpriv:
        command = [setpriv, "--pdeathsig", "TERM", "--", *command] if not entered else command
    with log.open("ab") as output:
        os.chmod(log, 0o600)
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=POSTGRES_ENVIRONMENT | environment,
            umask=0o077,
            start_new_session=True,
            **(account.process_options() if account and not entered else {}),
        )


def stop(process: Process | None) -> None:
    """Ask a program to stop, and end it if it does not."""
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS)
