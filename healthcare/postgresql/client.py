"""`manage.py dbshell`."""

import os
from collections.abc import Iterable
from typing import Any

from django.db.backends.postgresql import client


class DatabaseClient(client.DatabaseClient):
    """Let psql connect to the host that the application uses, unless PGTARGETSESSIONATTRS says otherwise."""

    @classmethod
    def settings_to_cmd_args_env(
        cls, settings_dict: dict[str, Any], parameters: Iterable[str]
    ) -> tuple[list[str], dict[str, str] | None]:
        command, environment = super().settings_to_cmd_args_env(settings_dict, list(parameters))
        target = settings_dict["OPTIONS"].get("target_session_attrs")
        if target and "PGTARGETSESSIONATTRS" not in os.environ:
            environment = {**(environment or {}), "PGTARGETSESSIONATTRS": target}
        return command, environment
