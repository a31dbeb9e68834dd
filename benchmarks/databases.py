"""The databases, all in one PostgreSQL: one is filled once and kept, each run works on copies of it."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psutil
import psycopg2
from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from benchmarks import data
from benchmarks.progress import say

# What the references that are no more than an application keep: the tables they use, with their keys and constraints.
PLAIN_TABLES = ("accounts_user", "patients_patient", "doctors_doctor", "mappings_mapping")
# What Django makes by itself for a foreign key and a unique name.
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
    WHERE schemaname = 'public' AND tablename <> ALL (%(kept)s)
UNION ALL SELECT format('DROP TRIGGER %%I ON %%s', tgname, tgrelid::regclass) FROM pg_trigger
    WHERE NOT tgisinternal AND tgrelid = ANY (%(kept)s::text[]::regclass[])
UNION ALL SELECT format('ALTER TABLE %%s DISABLE ROW LEVEL SECURITY', name) FROM unnest(%(kept)s) AS name
UNION ALL SELECT format('ALTER TABLE %%s ALTER COLUMN %%I RESET (n_distinct)', attrelid::regclass, attname)
    FROM pg_attribute WHERE attrelid = ANY (%(kept)s::text[]::regclass[]) AND attoptions IS NOT NULL
UNION ALL SELECT format('DROP INDEX %%s', indexrelid::regclass) FROM pg_index
    WHERE indrelid = ANY (%(kept)s::text[]::regclass[]) AND NOT indisprimary AND NOT indisunique
"""


@contextmanager
def opened(database: str) -> Iterator[Any]:
    """A cursor on another database of the server, outside of any transaction."""
    parameters = {**connection.get_connection_params(), "dbname": database}
    parameters.pop("cursor_factory", None)
    other = psycopg2.connect(**parameters)
    other.autocommit = True
    try:
        with other.cursor() as cursor:
            yield cursor
    finally:
        other.close()


def url_of(database: str) -> str:
    parameters = connection.get_connection_params()
    user = quote(str(parameters.get("user") or ""), safe="")
    password = quote(str(parameters.get("password") or ""), safe="")
    query = {name: parameters[name] for name in ("host", "port") if parameters.get(name)}
    return f"postgres://{user}{':' + password if password else ''}@/{database}?{urlencode(query)}"


def server() -> psutil.Process:
    """PostgreSQL itself, the parent of every process that serves a connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        parent = psutil.Process(cursor.fetchone()[0]).parent()
    assert parent, "PostgreSQL must run on this machine"  # noqa: S101
    return parent


def filled(others: int) -> str:
    """The name of the database that is kept."""
    return f"benchmark_{others}"


def copied(kind: str, others: int) -> str:
    """The name of the copy of one run."""
    return f"{filled(others)}_{kind}"


def fingerprint() -> str:
    """Of what the rows were made by."""
    migrations = sorted(str(key) for key in MigrationLoader(connection).disk_migrations)
    made_by = [*migrations, Path(data.__file__).read_text(encoding="utf-8")]
    return hashlib.sha256("\n".join(made_by).encode()).hexdigest()[:16]


def use(database: str) -> None:
    connection.close()
    connection.settings_dict["NAME"] = database


def prepare(others: int) -> None:
    """Use the filled database; it is made anew when the migrations or the data have changed."""
    connection.ensure_connection()  # starts the server if need be
    if not is_filled(filled(others)):
        fill(filled(others), others)
    use(filled(others))


def is_filled(name: str) -> bool:
    with opened("postgres") as cursor:
        cursor.execute("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [name])
        return bool(cursor.fetchone() == (fingerprint(),))


def fill(name: str, others: int) -> None:
    with opened("postgres") as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        cursor.execute(f"CREATE DATABASE {name}")
    use(name)
    say("Making the tables…")
    call_command("migrate", verbosity=0)
    say(f"Filling them with {data.OWN + others:,} patients, which is done once and may take a minute…")
    data.fill(others)
    connection.close()
    with opened("postgres") as cursor:
        cursor.execute(f"COMMENT ON DATABASE {name} IS %s", [fingerprint()])


def copy(kind: str, others: int) -> str:
    """A copy for one run; returns its URL. "product" is all of it; "plain" and "indexed" have no history, no access
    log, no row security, and the indexes of Django's foreign keys; "indexed" has the composite one too."""
    name = copied(kind, others)
    connection.close()
    with opened("postgres") as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        cursor.execute(f"CREATE DATABASE {name} TEMPLATE {filled(others)} STRATEGY file_copy")
    if kind != "product":
        with opened(name) as cursor:
            cursor.execute(EXTRAS, {"kept": list(PLAIN_TABLES)})
            for (statement,) in cursor.fetchall():
                cursor.execute(statement)
            cursor.execute(PLAIN_INDEXES + (COMPOSITE if kind == "indexed" else ""))
            cursor.execute("ANALYZE")
    return url_of(name)


def drop(kinds: Iterable[str], others: int) -> None:
    """Give back the disk of these copies."""
    connection.close()
    with opened("postgres") as cursor:
        for kind in kinds:
            cursor.execute(f"DROP DATABASE IF EXISTS {copied(kind, others)} WITH (FORCE)")


def settle() -> None:
    """Write out what loading left behind, so that it does not fall into the first slices."""
    with connection.cursor() as cursor:
        cursor.execute("CHECKPOINT")
