"""A PostgreSQL of a test's own, to stop and to start again, set up and configured like the embedded one."""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from healthcare.embedded import binaries, cluster, probe
from healthcare.embedded.home import PORT, Home, resolve
from healthcare.embedded.supervisor import SETTINGS
from healthcare.tests.crash import eventually


class Postgres:
    """`home` is where its data, its socket and its log are."""

    def __init__(self, folder: Path) -> None:
        self.home: Home = resolve(folder / "home")
        self.programs = binaries.find().reachable(self.home)
        self.process: subprocess.Popen[bytes] | None = None
        self.home.make()
        cluster.prepare(self.home, self.programs)
        self.home.make_socket_folder()

    @property
    def url(self) -> str:
        return f"postgres://postgres@/{cluster.DATABASE}?host={self.home.socket_folder}&port={PORT}"

    def start(self, settings: dict[str, str] = SETTINGS) -> None:
        """Start it, with the embedded server's settings unless others are given."""
        given = {"listen_addresses": "", **settings, "unix_socket_directories": str(self.home.socket_folder)}
        options = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
        account = self.home.account.process_options() if self.home.account else {}
        with self.home.log.open("ab") as log:
            command = [self.programs.program("postgres"), "-D", str(self.home.data), *options]
            self.process = subprocess.Popen(
                command, cwd="/", env=cluster.ENVIRONMENT, stdout=log, stderr=log, **account
            )
        eventually(lambda: probe.accepts(self.home.socket))

    def stop(self) -> None:
        """At once, as `pg_ctl stop -m immediate` does; the next start recovers."""
        if self.process:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait()
            self.process = None


@contextmanager
def own_postgres() -> Iterator[Postgres]:
    """A running one, gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="hc-", dir="/tmp"))
    folder.chmod(0o755)
    postgres = Postgres(folder)
    postgres.start()
    try:
        yield postgres
    finally:
        postgres.stop()
        shutil.rmtree(folder)
