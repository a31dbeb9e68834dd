"""The database backend: the project's PostgreSQL backend on a server that it starts when the connection is refused."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from django.db.utils import OperationalError

from healthcare.embedded import probe, server
from healthcare.embedded.client import EmbeddedDatabaseClient
from healthcare.embedded.cluster import SUPERUSER
from healthcare.embedded.errors import EmbeddedError
from healthcare.embedded.home import POSTGRES_PORT, Home, resolve_home
from healthcare.embedded.login import LOGIN, ensure_login
from healthcare.postgresql import base

_start_allowed = ContextVar("start_allowed", default=True)


class EmbeddedOperationalError(OperationalError):
    """The embedded server cannot be used. The text is one sentence for the user."""

    is_temporary = False


class DatabaseWrapper(base.DatabaseWrapper):
    """Connects through the server's socket. A refused connection starts the server."""

    display_name = "embedded PostgreSQL"
    client_class = EmbeddedDatabaseClient

    @property
    def home(self) -> Home:
        return resolve_home(Path(self.settings_dict["EMBEDDED_HOME"]))

    def get_connection_params(self) -> dict[str, Any]:
        server_params = {"host": str(self.home.socket_folder), "port": str(POSTGRES_PORT), "user": LOGIN}
        return {**super().get_connection_params(), **server_params}

    def get_superuser_params(self) -> dict[str, Any]:
        """For tests and benchmarks, which create databases."""
        return {**self.get_connection_params(), "user": SUPERUSER}

    def open_session(self, parameters: dict[str, Any]) -> Any:
        """Raises EmbeddedOperationalError if the server cannot be started."""
        try:
            return self._connect_or_start(parameters)
        except EmbeddedError as error:
            refused = EmbeddedOperationalError(str(error))
            refused.is_temporary = error.is_temporary
            raise refused from error

    def _connect_or_start(self, parameters: dict[str, Any]) -> Any:
        has_socket_folder = self.home.check_socket_folder()
        if not _start_allowed.get() and not (has_socket_folder and probe.accepts_connections(self.home.socket)):
            warnings.filterwarnings("ignore", "Got an error checking a consistent migration history", RuntimeWarning)
            raise EmbeddedError("The embedded PostgreSQL does not run, and this command does not start it.")
        server.attach(self.home)
        try:
            return super().open_session(parameters)
        except self.Database.OperationalError:
            if not (self.home.check_socket_folder() and probe.accepts_connections(self.home.socket)):
                server.ensure_running(self.home)
        # Where the server ran already, the error is about the database or the role, which earlier versions lacked.
        ensure_login(self.home)
        return super().open_session(parameters)


@contextmanager
def starting_disabled() -> Iterator[None]:
    """Let connections fail instead of starting the server, for commands that can do without the database."""
    token = _start_allowed.set(False)
    try:
        yield
    finally:
        _start_allowed.reset(token)


def release_servers() -> None:
    """Detach from every embedded server that this process has used. The last client stops the server and waits."""
    from django.db import connections

    connections.close_all()
    for connection in connections.all(initialized_only=True):
        if isinstance(connection, DatabaseWrapper):
            server.detach(connection.home)
