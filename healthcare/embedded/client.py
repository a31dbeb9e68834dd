"""`manage.py dbshell`."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from healthcare.embedded import binaries
from healthcare.embedded.errors import EmbeddedError
from healthcare.embedded.home import POSTGRES_PORT, resolve_home
from healthcare.embedded.login import LOGIN
from healthcare.postgresql.client import DatabaseClient


class EmbeddedDatabaseClient(DatabaseClient):
    """Run psql of the embedded server's binaries, else psql on PATH."""

    @classmethod
    def settings_to_cmd_args_env(
        cls, settings_dict: dict[str, Any], parameters: Iterable[str]
    ) -> tuple[list[str], dict[str, str] | None]:
        home = resolve_home(Path(settings_dict["EMBEDDED_HOME"]))
        server_settings = {"HOST": str(home.socket_folder), "PORT": str(POSTGRES_PORT), "USER": LOGIN}
        command, environment = super().settings_to_cmd_args_env({**settings_dict, **server_settings}, list(parameters))
        try:
            psql = binaries.find_binaries().program("psql")
        except EmbeddedError:
            return command, environment
        return [psql if os.access(psql, os.X_OK) else command[0], *command[1:]], environment

    def runshell(self, parameters: Iterable[str]) -> None:
        self.connection.ensure_connection()  # starts the server if necessary and counts this process as a client
        self.connection.close()
        super().runshell(parameters)
