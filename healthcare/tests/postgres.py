"""A separate PostgreSQL that a test can stop and start, configured like the embedded one."""

import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from healthcare.embedded import binaries, cluster, probe, url
from healthcare.embedded.home import POSTGRES_PORT, Home, resolve_home
from healthcare.embedded.supervisor import SERVER_SETTINGS
from healthcare.embedded.tests.harness import copy_data
from healthcare.tests.crash import eventually
from healthcare.tests.memory_folder import temporary_folder


class SeparatePostgres:
    """Its data is a copy of that of a home whose server is stopped. `home` is its folder of data, socket and log."""

    def __init__(self, folder: Path, original: Home) -> None:
        self.home: Home = resolve_home(folder / "home")
        self.programs = binaries.find_binaries().accessible_to_server(self.home)
        self.process: subprocess.Popen[bytes] | None = None
        copy_data(original, self.home)
        self.home.create_socket_folder()

    @property
    def url(self) -> str:
        return f"postgres://postgres@/{url.DATABASE_NAME}?host={self.home.socket_folder}&port={POSTGRES_PORT}"

    def start(
        self, settings: dict[str, str] = SERVER_SETTINGS, *, environment: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Start the server with these settings, by default those of the embedded server, and this added environment."""
        given = {"listen_addresses": "", **settings, "unix_socket_directories": str(self.home.socket_folder)}
        options = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
        account = self.home.account.process_options() if self.home.account else {}
        with self.home.log.open("ab") as log:
            command = [self.programs.program("postgres"), "-D", str(self.home.data), *options]
            self.process = subprocess.Popen(
                command, cwd="/", env={**cluster.POSTGRES_ENVIRONMENT, **environment}, stdout=log, stderr=log, **account
            )
        eventually(lambda: probe.accepts_connections(self.home.socket))

    def stop(self) -> None:
        """Stop as `pg_ctl stop -m immediate` does; the next start recovers."""
        if self.process:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait()
            self.process = None


class Standby(SeparatePostgres):
    """A hot standby of another server, which runs in this home."""

    def __init__(self, folder: Path, primary: Home) -> None:
        self.home = resolve_home(folder / "home")
        self.home.create()
        self.programs, self.process = binaries.find_binaries().accessible_to_server(self.home), None
        account = self.home.account.process_options() if self.home.account else {}
        source = ["-h", str(primary.socket_folder), "-p", str(POSTGRES_PORT), "-U", "postgres"]
        command = [self.programs.program("pg_basebackup"), "-R", "-c", "fast", "-D", str(self.home.data), *source]
        subprocess.run(command, check=True, cwd="/", **account)
        self.home.create_socket_folder()


@contextmanager
def separate_postgres(original: Home) -> Iterator[SeparatePostgres]:
    """Yield a running server on a copy of that home's data, and remove it at the end."""
    with temporary_folder() as folder:
        postgres = SeparatePostgres(folder, original)
        postgres.start()
        try:
            yield postgres
        finally:
            postgres.stop()
