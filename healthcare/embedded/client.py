"""`manage.py dbshell`."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.db.backends.postgresql.client import DatabaseClient as PostgreSQLClient

from healthcare.embedded import binaries
from healthcare.embedded.cluster import SUPERUSER
from healthcare.embedded.failure import EmbeddedError
from healthcare.embedded.home import PORT, resolve


class DatabaseClient(PostgreSQLClient):
    """psql of the embedded server, else the one on PATH."""

    @classmethod
    def settings_to_cmd_args_env(
        cls, settings_dict: dict[str, Any], parameters: Iterable[str]
    ) -> tuple[list[str], dict[str, str] | None]:
        home = resolve(Path(settings_dict["EMBEDDED_HOME"]))
        place = {"HOST": str(home.socket_folder), "PORT": str(PORT), "USER": SUPERUSER}
        command, environment = super().settings_to_cmd_args_env({**settings_dict, **place}, list(parameters))
        try:
            bundled = binaries.find().program("psql")
        except EmbeddedError:
            return command, environment
        return [bundled if os.access(bundled, os.X_OK) else command[0], *command[1:]], environment

    def runshell(self, parameters: Iterable[str]) -> None:
        self.connection.ensure_connection()  # starts the server if need be, and this process stays its user
        self.connection.close()
        super().runshell(parameters)
