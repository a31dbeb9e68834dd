"""A migrated database with a hundred patients, to which a test applies migrations of its own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import pytest
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration

from healthcare.tests.live import own_database, url_of
from healthcare.tests.migrated import DATABASE, ensure_template_database
from healthcare.upgrades.executor import PatientExecutor

ALIAS = "upgraded"
RECORDS = """
INSERT INTO accounts_user (id, username, email, name, password, is_active, is_staff, is_superuser, created_at)
    VALUES (1, 'ada', 'ada@example.org', 'Ada', '!', true, false, false, now());
INSERT INTO patients_patient (name, gender, identifier, identifiers, phone, alternate_phone, email, address, language,
    contacts, medical_history, version, created_at, updated_at, created_by_id)
    SELECT 'Patient ' || number, 'U', '', '[]', '', '', '', '', '', '[]', '', 1, now(), now(), 1
    FROM generate_series(1, 100) number;
"""


@contextmanager
def migrated_database(django_db_blocker: Any) -> Iterator[BaseDatabaseWrapper]:
    """A connection of `ALIAS` to a new migrated database. pytest-django lets only the block use a database."""
    with django_db_blocker.unblock():
        ensure_template_database()
        with own_database(template=DATABASE) as name:
            database: Any = connection.copy(ALIAS)
            database.settings_dict["NAME"] = name
            connections[ALIAS] = database
            try:
                yield database
            finally:
                database.close()
                del connections[ALIAS]


@pytest.fixture
def upgraded(django_db_setup: None, django_db_blocker: Any) -> Iterator[BaseDatabaseWrapper]:
    with migrated_database(django_db_blocker) as database:
        database.inc_thread_sharing()
        with database.cursor() as cursor:
            cursor.execute(RECORDS)
        yield database


@pytest.fixture
def run_sql(upgraded: BaseDatabaseWrapper) -> Callable[..., list[tuple[Any, ...]]]:
    def run(statement: str) -> list[tuple[Any, ...]]:
        with upgraded.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    return run


@pytest.fixture
def open_session(upgraded: BaseDatabaseWrapper) -> Iterator[Callable[[], Any]]:
    """Opens another session of the database, whose statements run in a transaction."""
    opened: list[Any] = []

    def open_one() -> Any:
        opened.append(psycopg2.connect(url_of(upgraded.settings_dict["NAME"])))
        return opened[-1]

    yield open_one
    for session in opened:
        session.close()


@pytest.fixture
def executor(upgraded: BaseDatabaseWrapper) -> PatientExecutor:
    return PatientExecutor(upgraded)


@pytest.fixture
def apply(executor: PatientExecutor) -> Callable[..., None]:
    """Applies a migration of patients with these operations."""

    def apply_operations(*operations: Any, atomic: bool = True) -> None:
        sample = type("Migration", (Migration,), {"operations": list(operations), "atomic": atomic})
        executor.apply_migration(executor.loader.project_state(), sample("9001_sample", "patients"))

    return apply_operations
