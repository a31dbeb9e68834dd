"""The databases, all on one PostgreSQL: a template is filled once, and each run works on copies of it."""

import hashlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psutil
import psycopg2
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.migrations.loader import MigrationLoader

from benchmarks import data
from benchmarks.terminal import print_line
from healthcare.embedded.base import DatabaseWrapper

# The tables that the copies "plain" and "indexed" keep, with their keys and constraints.
PLAIN_TABLES = ("accounts_user", "patients_patient", "doctors_doctor", "mappings_mapping")
# The indexes that Django creates by itself for a foreign key and a unique name.
PLAIN_INDEXES = """
CREATE INDEX plain_patient_owner ON patients_patient (created_by_id);
CREATE INDEX plain_doctor_owner ON doctors_doctor (created_by_id);
CREATE INDEX plain_mapping_owner ON mappings_mapping (created_by_id);
CREATE INDEX plain_mapping_patient ON mappings_mapping (patient_id);
CREATE UNIQUE INDEX plain_username ON accounts_user (username);
"""
COMPOSITE = "CREATE INDEX composite ON patients_patient (created_by_id, id DESC)"
EXTRAS = """
SELECT format('DROP VIEW %%I CASCADE', viewname) FROM pg_views WHERE schemaname = 'public'
UNION ALL SELECT format('DROP TABLE %%I CASCADE', tablename) FROM pg_tables
    WHERE schemaname = 'public' AND tablename <> ALL (%(tables)s)
UNION ALL SELECT format('DROP TRIGGER %%I ON %%s', tgname, tgrelid::regclass) FROM pg_trigger
    WHERE NOT tgisinternal AND tgrelid = ANY (%(tables)s::text[]::regclass[])
UNION ALL SELECT format('ALTER TABLE %%s DISABLE ROW LEVEL SECURITY', name) FROM unnest(%(tables)s) AS name
UNION ALL SELECT format('ALTER TABLE %%s ALTER COLUMN %%I RESET (n_distinct)', attrelid::regclass, attname)
    FROM pg_attribute WHERE attrelid = ANY (%(tables)s::text[]::regclass[]) AND attoptions IS NOT NULL
UNION ALL SELECT format('DROP INDEX %%s', indexrelid::regclass) FROM pg_index
    WHERE indrelid = ANY (%(tables)s::text[]::regclass[]) AND NOT indisprimary AND NOT indisunique
"""
DISABLE_POLICIES = """
DO $$ DECLARE protected regclass; BEGIN
    FOR protected IN SELECT oid FROM pg_class WHERE relrowsecurity LOOP
        EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', protected);
    END LOOP;
END $$
"""


@contextmanager
def open_cursor(database: str) -> Iterator[Any]:
    """A cursor on another database of the server, outside of any transaction; of the embedded one, as its superuser."""
    login: Any = connections[DEFAULT_DB_ALIAS]
    as_superuser = isinstance(login, DatabaseWrapper)
    parameters = login.get_superuser_params() if as_superuser else login.get_connection_params()
    parameters = {**parameters, "dbname": database}
    parameters.pop("cursor_factory", None)
    other = psycopg2.connect(**parameters)
    other.autocommit = True
    try:
        with other.cursor() as cursor:
            yield cursor
    finally:
        other.close()


def owned_by_login() -> str:
    """The option of CREATE DATABASE that makes the application's login the owner."""
    user = connection.get_connection_params().get("user")
    return f' OWNER "{user}"' if user else ""


def url_of(database: str) -> str:
    parameters = connection.get_connection_params()
    user = quote(str(parameters.get("user") or ""), safe="")
    password = quote(str(parameters.get("password") or ""), safe="")
    query = {name: parameters[name] for name in ("host", "port") if parameters.get(name)}
    return f"postgres://{user}{':' + password if password else ''}@/{database}?{urlencode(query)}"


def find_server_process() -> psutil.Process:
    """PostgreSQL itself, the parent of every process that serves a connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        parent = psutil.Process(cursor.fetchone()[0]).parent()
    assert parent, "PostgreSQL must run on this machine"  # noqa: S101
    return parent


def template_name(others: int) -> str:
    """The database that is filled once, with so many patients of others than the caller."""
    return f"benchmark_{others}"


def copy_name(kind: str, others: int) -> str:
    """The copy of one run."""
    return f"{template_name(others)}_{kind}"


def fingerprint() -> str:
    """Changes with everything that the tables and the rows are made from."""
    modules = {type(one).__module__ for one in MigrationLoader(connection).disk_migrations.values()}
    files = [*(str(sys.modules[name].__file__) for name in sorted(modules)), str(data.__file__)]
    return hashlib.sha256(b"\n".join(Path(file).read_bytes() for file in files)).hexdigest()[:16]


def use_database(database: str) -> None:
    connection.close()
    connection.settings_dict["NAME"] = database


def prepare(others: int) -> None:
    """Use the template; fill it first, or again when the migrations or the rows have changed."""
    connection.ensure_connection()  # starts the server if need be
    if not is_filled(template_name(others)):
        fill_template(template_name(others), others)
    use_database(template_name(others))


def is_filled(name: str) -> bool:
    with open_cursor("postgres") as cursor:
        cursor.execute("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [name])
        return bool(cursor.fetchone() == (fingerprint(),))


def create_migrated_database(name: str) -> None:
    """Create it, in place of one of this name, and use it."""
    connection.ensure_connection()  # starts the server if need be
    drop_databases([name])
    with open_cursor("postgres") as cursor:
        cursor.execute(f"CREATE DATABASE {name}{owned_by_login()}")
    use_database(name)
    print_line("Creating the tables…")
    call_command("migrate", verbosity=0)


def drop_databases(names: Iterable[str]) -> None:
    with open_cursor("postgres") as cursor:
        for name in names:
            cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def mark_as_filled(name: str) -> None:
    """Until the migrations or the rows change: see `is_filled`."""
    connection.close()
    with open_cursor("postgres") as cursor:
        cursor.execute(f"COMMENT ON DATABASE {name} IS %s", [fingerprint()])


def fill_template(name: str, others: int) -> None:
    create_migrated_database(name)
    print_line(f"Filling them with {data.OWN + others:,} patients, which is done once and may take a minute…")
    data.fill_database(others)
    mark_as_filled(name)


def copy_database(kind: str, others: int) -> str:
    """Copies the template for one run and returns the URL of the copy.

    "product" is all of it. "unprotected" is that without row-level security. "plain" and "indexed" have no history, no
    access log, no row-level security, and only the indexes of Django's foreign keys; "indexed" has the composite index
    too.
    """
    name = copy_name(kind, others)
    connection.close()
    with open_cursor("postgres") as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        cursor.execute(f"CREATE DATABASE {name} TEMPLATE {template_name(others)} STRATEGY file_copy{owned_by_login()}")
    if kind == "unprotected":
        with open_cursor(name) as cursor:
            cursor.execute(DISABLE_POLICIES)
    elif kind != "product":
        with open_cursor(name) as cursor:
            cursor.execute(EXTRAS, {"tables": list(PLAIN_TABLES)})
            for (statement,) in cursor.fetchall():
                cursor.execute(statement)
            cursor.execute(PLAIN_INDEXES + (COMPOSITE if kind == "indexed" else ""))
            cursor.execute("ANALYZE")
    return url_of(name)


def drop_copies(kinds: Iterable[str], others: int) -> None:
    """Drop these copies to free their disk space."""
    connection.close()
    drop_databases(copy_name(kind, others) for kind in kinds)


def checkpoint() -> None:
    """Write the pages that copying changed, so that no slice pays for it."""
    with open_cursor("postgres") as cursor:
        cursor.execute("CHECKPOINT")
