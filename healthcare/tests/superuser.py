"""What tests do as the superuser of the database server. The application's own login is none."""

from typing import Any

import psycopg2
from django.db import DEFAULT_DB_ALIAS, connections

from healthcare.embedded.base import DatabaseWrapper
from healthcare.embedded.login import LOGIN


def admin_connection(name: str = "postgres") -> Any:
    """A session of the embedded server's superuser, or of the login of DATABASE_URL, on the database of this name."""
    database: Any = connections[DEFAULT_DB_ALIAS]
    embedded = isinstance(database, DatabaseWrapper)
    parameters = database.get_superuser_params() if embedded else database.get_connection_params()
    parameters = {**parameters, "dbname": name}
    parameters.pop("cursor_factory", None)
    opened = psycopg2.connect(**parameters)
    opened.autocommit = True
    return opened


def prepare_login_of_tests() -> None:
    """Let the login of the embedded server create the tests' databases, and empty tables without their triggers."""
    database: Any = connections[DEFAULT_DB_ALIAS]
    if not isinstance(database, DatabaseWrapper):
        return
    database.ensure_connection()  # starts the server
    database.close()
    admin = admin_connection()
    # Each worker repeats it. Two at once would fail, so one waits for the other.
    admin.cursor().execute(f"SELECT pg_advisory_lock(1); ALTER ROLE {LOGIN} CREATEDB")
    if admin.server_version >= 150000:
        admin.cursor().execute(f"GRANT SET ON PARAMETER session_replication_role TO {LOGIN}")
    admin.close()
