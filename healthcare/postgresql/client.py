"""`manage.py dbshell`."""

from collections.abc import Iterable
from typing import Any

from django.db.backends.postgresql import client


class DatabaseClient(client.DatabaseClient):
    """Of several hosts, let psql connect to the one that the application uses."""

    @classmethod
    def settings_to_cmd_args_env(
        cls, settings_dict: dict[str, Any], parameters: Iterable[str]
    ) -> tuple[list[str], dict[str, str] | None]:
        command, environment = super().settings_to_cmd_args_env(settings_dict, list(parameters))
        if target := settings_dict["OPTIONS"].get("target_session_attrs"):
            environment = {**(environment or {}), "PGTARGETSESSIONATTRS": target}
        return command, environment
