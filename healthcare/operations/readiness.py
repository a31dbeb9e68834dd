"""Whether requests can succeed: the checks behind /readyz, over one database session."""

import logging
import shutil
from functools import cache
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader

from healthcare.embedded.base import DatabaseWrapper as EmbeddedDatabase
from healthcare.postgresql.session import Limits, set_timeouts
from healthcare.rls import ROLE

logger = logging.getLogger("healthcare.health")

DATABASE = "database"
# Of one evaluation, so that /readyz is 503 within five seconds.
TIMEOUTS = set_timeouts(statement="2s", lock="1s", idle="5s")
ANSWER_SECONDS = CONNECTION_SECONDS = 2.5
# What an operator does about each failed check, in the order in which /readyz names them.
MIGRATE = "run `python3 manage.py migrate`."
REMEDIES = {
    DATABASE: "The database does not answer.",
    "read_only": "The database accepts no writes; connect to the primary, or reset default_transaction_read_only.",
    "role": f"The database login lacks the role {ROLE}; {MIGRATE}",
    "policies": f"The database lacks row-level security policies; {MIGRATE}",
    "grants": f"The database lacks privileges of the role {ROLE}; {MIGRATE}",
    "migrations": f"The database lacks migrations; {MIGRATE}",
    "disk": "The disk of the embedded database is almost full; free some space.",
}
INCOMPLETE = frozenset({"role", "policies", "grants", "migrations"})
# A transaction is read-only on a standby, too.
SESSION_STATE = """
SELECT current_setting('transaction_read_only')::boolean,
    to_regrole(%s) IS NOT NULL AND pg_has_role(to_regrole(%s), 'MEMBER'),
    to_regclass('django_migrations') IS NOT NULL
"""


def evaluate_in_new_session() -> tuple[str, ...]:
    """The names of the failed checks, in the order of `REMEDIES`. Never raises, and closes its session."""
    database: Any = connections.create_connection(DEFAULT_DB_ALIAS)
    database.set_limits(Limits(TIMEOUTS, ANSWER_SECONDS, CONNECTION_SECONDS))
    try:
        return evaluate(database)
    finally:
        database.close()


def evaluate(database: BaseDatabaseWrapper) -> tuple[str, ...]:
    """The names of the failed checks, in the order of `REMEDIES`. Never raises."""
    try:
        failed = {*failed_in_database(database)}
    except Error:
        failed = {DATABASE}
    except Exception as error:
        logger.error("readiness cannot be evaluated", exc_info=error)
        failed = {DATABASE}
    if isinstance(database, EmbeddedDatabase) and is_disk_full(database):
        failed.add("disk")
    return tuple(name for name in REMEDIES if name in failed)


def failed_in_database(database: BaseDatabaseWrapper) -> list[str]:
    """Raises `django.db.Error` if the database does not answer."""
    failed: list[str] = []
    with database.cursor() as cursor:
        cursor.execute(SESSION_STATE, [ROLE, ROLE])
        read_only, has_role, has_migrations = cursor.fetchone()
        applied: set[tuple[str, str]] = set()
        if has_migrations:
            cursor.execute("SELECT app, name FROM django_migrations")
            applied = {*cursor.fetchall()}
    if read_only:
        failed.append("read_only")
    if not has_role:
        failed.append("role")
    if not required_migrations() <= applied:
        failed.append("migrations")
    return failed


@cache
def required_migrations() -> set[tuple[str, str]]:
    """Every migration of the code as (app, name). Cached: it cannot change in a running process."""
    return {*MigrationLoader(None).disk_migrations}


def is_disk_full(database: EmbeddedDatabase) -> bool:
    try:
        return shutil.disk_usage(database.home.data).free < settings.DISK_FREE_MIB * 1024 * 1024
    except OSError:
        return False  # the database check tells whether the data can be used
