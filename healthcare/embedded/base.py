"""The database backend: Django's own for PostgreSQL, on a server that is started when it does not answer."""

import sys
import warnings
from pathlib import Path
from typing import Any

from django.db.backends.postgresql import base
from django.db.utils import OperationalError

from healthcare.embedded import probe, server
from healthcare.embedded.client import DatabaseClient
from healthcare.embedded.cluster import SUPERUSER
from healthcare.embedded.failure import EmbeddedError
from healthcare.embedded.home import PORT, Home, resolve

# Looks at the migrations that are applied if it can, and only warns if it cannot.
COMMANDS_THAT_START_NOTHING = {"makemigrations"}


class EmbeddedOperationalError(OperationalError):
    """The embedded server cannot be used; the text is one sentence for a person."""


class DatabaseWrapper(base.DatabaseWrapper):
    """Connects through the server's socket; the first refused connection starts the server."""

    display_name = "embedded PostgreSQL"
    client_class = DatabaseClient

    @property
    def home(self) -> Home:
        return resolve(Path(self.settings_dict["EMBEDDED_HOME"]))

    def get_connection_params(self) -> dict[str, Any]:
        place = {"host": str(self.home.socket_folder), "port": str(PORT), "user": SUPERUSER}
        return {**super().get_connection_params(), **place}

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Raises EmbeddedOperationalError when the server cannot be started."""
        try:
            return self._connect(conn_params)
        except EmbeddedError as error:
            raise EmbeddedOperationalError(str(error)) from error

    def _connect(self, conn_params: dict[str, Any]) -> Any:
        there = self.home.check_socket_folder()
        if not may_start() and not (there and probe.accepts(self.home.socket)):
            warnings.filterwarnings("ignore", "Got an error checking a consistent migration history", RuntimeWarning)
            raise EmbeddedError("The embedded PostgreSQL does not run, and this command does not start it.")
        server.join(self.home)
        try:
            return super().get_new_connection(conn_params)
        except self.Database.OperationalError:
            if self.home.check_socket_folder() and probe.accepts(self.home.socket):
                raise  # it answers: the database or the account is the trouble
        server.ensure_running(self.home)
        return super().get_new_connection(conn_params)


def may_start() -> bool:
    return not COMMANDS_THAT_START_NOTHING.intersection(sys.argv[1:2])


def stop_if_last() -> None:
    """Leave every embedded server this process has used; the last user waits until the server has stopped."""
    from django.db import connections

    connections.close_all()
    for connection in connections.all(initialized_only=True):
        if isinstance(connection, DatabaseWrapper):
            server.leave(connection.home)
