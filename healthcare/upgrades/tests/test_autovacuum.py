"""An autovacuum of a table, which may take hours, gives way to a migration."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from django.db.migrations import AddField
from django.db.models import CharField

from healthcare.tests.live import TIMEOUT
from healthcare.tests.superuser import admin_connection
from healthcare.upgrades.executor import PatientExecutor

pytestmark = pytest.mark.slow

# A slow autovacuum that begins at the next occasion: ten pages at a time, with pauses of 0.1 s.
MAKE_DIRTY = """
ALTER TABLE patients_patient SET (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1);
SET session_replication_role = replica;
INSERT INTO patients_patient (name, gender, identifier, identifiers, phone, alternate_phone, email, address, language,
    contacts, medical_history, version, created_at, updated_at, created_by_id)
    SELECT 'Patient', 'U', '', '[]', '', '', '', repeat('x', 500), '', '[]', '', 1, now(), now(), 1
    FROM generate_series(1, 5000);
DELETE FROM patients_patient WHERE id % 2 = 0;
"""
VACUUMING = "SELECT count(*) FROM pg_stat_progress_vacuum WHERE datname = current_database()"


@pytest.fixture
def frequent_autovacuum() -> Iterator[None]:
    with closing(admin_connection()) as admin, admin.cursor() as cursor:
        cursor.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
        cursor.execute("SELECT pg_reload_conf()")
        yield
        cursor.execute("ALTER SYSTEM RESET autovacuum_naptime")
        cursor.execute("SELECT pg_reload_conf()")


def test_a_migration_ends_an_autovacuum_that_has_its_table(
    upgraded: Any,
    frequent_autovacuum: None,
    executor: PatientExecutor,
    apply: Callable[..., None],
    run_sql: Callable[..., list[tuple[Any, ...]]],
) -> None:
    reports: list[str] = []
    executor.report = reports.append
    with closing(admin_connection(upgraded.settings_dict["NAME"])) as admin, admin.cursor() as cursor:
        cursor.execute(MAKE_DIRTY)
    deadline = time.monotonic() + TIMEOUT
    while run_sql(VACUUMING) == [(0,)]:
        assert time.monotonic() < deadline, "no autovacuum began"
        time.sleep(0.1)
    apply(AddField("patient", "chart", CharField(max_length=20, default="", db_default="")))
    assert len(reports) == 1, "the second attempt gets the lock"
