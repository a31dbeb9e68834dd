"""Whether requests can succeed: the checks behind /readyz, over one database session."""

import logging
import shutil
import time
from functools import cache
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, Error, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader
from psycopg2.errors import LockNotAvailable

from healthcare.embedded.base import DatabaseWrapper as EmbeddedDatabase
from healthcare.operations.clock import READ_CLOCK, database_clock
from healthcare.postgresql.session import Limits, set_timeouts
from healthcare.rls import ROLE
from healthcare.rls.access import AccessGap, find_access_gaps, read_applied

logger = logging.getLogger("healthcare.health")

DATABASE, CLOCK = "database", "clock"
# What an operator does about each failed check, in the order in which /readyz names them.
MIGRATE = "run `python3 manage.py migrate`."
REMEDIES = {
    DATABASE: "The database does not answer; start it, or correct DATABASE_URL.",
    "read_only": "The database accepts no writes; connect to the primary, or reset default_transaction_read_only.",
    "role": f"The database login lacks the role {ROLE}; {MIGRATE}",
    "policies": f"The database lacks row-level security policies; {MIGRATE}",
    "grants": f"The database lacks privileges of the role {ROLE}; {MIGRATE}",
    "migrations": f"The database lacks migrations; {MIGRATE}",
    CLOCK: "The clocks of this machine and of the database server differ; set the wrong one right.",
    "disk": "The disk of the embedded database is almost full; free some space.",
}
# With any of these failed, requests meet missing roles, privileges, schemas, tables or columns.
INCOMPLETE = frozenset({DATABASE, "role", "policies", "grants", "migrations"})
# A transaction is read-only on a standby, too.
READ_STATE = f"SELECT current_setting('transaction_read_only')::boolean, {READ_CLOCK}"

# Changes with whatever `find_access_gaps` compares, at a fifth of its cost, and waits for no lock on a table.
CATALOG_STATE = """
SELECT md5(string_agg(entry, ' ' ORDER BY entry)) FROM (
    SELECT 'policy ' || oid || ' ' || xmin AS entry FROM pg_policy
    UNION ALL
    SELECT 'relation ' || oid || ' ' || xmin FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    UNION ALL
    SELECT 'column ' || attrelid || ' ' || attnum || ' ' || xmin FROM pg_attribute WHERE attacl IS NOT NULL
    UNION ALL
    SELECT 'function ' || oid || ' ' || xmin FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'member ' || roleid || ' ' || member || ' ' || xmin FROM pg_auth_members
    UNION ALL
    SELECT 'role ' || pg_roles::text FROM pg_roles WHERE rolname IN (%s, current_user)
    UNION ALL
    SELECT 'schema ' || xmin FROM pg_namespace WHERE nspname = 'public'
) AS entries
"""

Failures = dict[str, list[str]]  # the names of failed checks in the order of REMEDIES, each with what it has found


def evaluation_limits() -> Limits:
    """So short that /readyz is 503 within five seconds."""
    return Limits(set_timeouts(statement="2s", lock="1s", idle="5s"), answer=2.5, connection=2.5)


def evaluate_in_new_session() -> Failures:
    """Never raises, and closes its session."""
    database: Any = connections.create_connection(DEFAULT_DB_ALIAS)
    database.set_limits(evaluation_limits())
    try:
        return evaluate(database)
    finally:
        database.close()


def evaluate(database: BaseDatabaseWrapper) -> Failures:
    """Never raises."""
    try:
        found = find_failures(database)
    except Error:
        found = {DATABASE: []}
    except Exception as error:
        logger.error("readiness cannot be evaluated", exc_info=error)
        found = {DATABASE: []}
    if isinstance(database, EmbeddedDatabase) and is_disk_full(database):
        found["disk"] = []
    return {name: found[name] for name in REMEDIES if name in found}


def find_failures(database: BaseDatabaseWrapper) -> Failures:
    """Raises `django.db.Error` if the database does not answer."""
    found: Failures = {}
    with database.cursor() as cursor:
        asked_at = time.monotonic()
        cursor.execute(READ_STATE)
        is_read_only, epoch = cursor.fetchone()
    database_clock.set(epoch, asked_at)
    if is_read_only:
        found["read_only"] = []
    if database_clock.differs():
        found[CLOCK] = [database_clock.describe()]
    missing = required_migrations() - read_applied(database)
    if missing:
        found["migrations"] = [".".join(key) for key in sorted(missing)]
    for gap in access_gaps.find(database):
        found.setdefault(gap.check, []).append(gap.name)
    return found


class AccessGaps:
    """The gaps in role, policies and grants, which are compared again only after the catalogs have changed."""

    def __init__(self) -> None:
        self.state: tuple[Any, ...] = ()
        self.gaps: list[AccessGap] = []

    def find(self, database: BaseDatabaseWrapper) -> list[AccessGap]:
        with database.cursor() as cursor:
            cursor.execute(CATALOG_STATE, [ROLE])
            state = database.settings_dict["NAME"], *cursor.fetchone(), *sorted(read_applied(database))
        if state != self.state:
            try:
                self.gaps = find_access_gaps(database)
                self.state = state
            except OperationalError as error:
                # To read a policy waits for the lock on its table. What was found before holds until that is released.
                if not isinstance(error.__cause__, LockNotAvailable):
                    raise
        return self.gaps


access_gaps = AccessGaps()


@cache
def required_migrations() -> set[tuple[str, str]]:
    """Every migration of the code as (app, name). Cached: it cannot change in a running process."""
    return {*MigrationLoader(None).disk_migrations}


def is_disk_full(database: EmbeddedDatabase) -> bool:
    try:
        return shutil.disk_usage(database.home.data).free < settings.DISK_FREE_MIB * 1024 * 1024
    except OSError:
        return False  # the database check tells whether the data can be used
