"""A migration waits for locks briefly and again, so that nobody waits for it; an interrupted one continues."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from django.core.management.base import CommandError
from django.db import IntegrityError, connections
from django.db.migrations import AddField, RunSQL
from django.db.models import CharField, Index, TextField

from healthcare.migration_operations import AddIndexConcurrently, Backfill
from healthcare.rls import ROLE
from healthcare.tests.superuser import admin_connection
from healthcare.upgrades import executor as executor_module
from healthcare.upgrades.executor import PatientExecutor
from healthcare.upgrades.lock import MigrationLock, migration_lock
from healthcare.upgrades.tests.conftest import ALIAS

ADD_FIELD = AddField("patient", "chart", CharField(max_length=20, default="", db_default=""))
ADD_INDEX = AddIndexConcurrently("patient", Index(fields=["name"], name="patient_sample"))
FILL = Backfill("patients_patient", "address = 'Chart ' || id", "address = ''", batch=30)
COLUMN = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'patients_patient'::regclass AND attname = 'chart'"
RECORDED = "SELECT count(*) FROM django_migrations WHERE name = '9001_sample'"
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('patient_sample')"

Run = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def reports(executor: PatientExecutor) -> list[str]:
    lines: list[str] = []
    executor.report = lines.append
    return lines


def test_a_migration_gives_up_a_lock_in_use_and_gets_it_later(
    apply: Callable[..., None], open_session: Callable[[], Any], executor: PatientExecutor, run_sql: Run
) -> None:
    holder, reader = open_session(), open_session()
    holder.cursor().execute("SELECT 1 FROM patients_patient LIMIT 1")
    lines: list[str] = []

    def read_while_it_pauses(line: str) -> None:
        lines.append(line)
        # A migration that still waited for its lock would block this.
        reader.cursor().execute("SET LOCAL lock_timeout = '100ms'; SELECT 1 FROM patients_patient LIMIT 1")
        reader.rollback()
        assert run_sql(COLUMN) == [(0,)]
        if len(lines) == 2:
            holder.rollback()

    executor.report = read_while_it_pauses
    apply(ADD_FIELD)
    assert run_sql(COLUMN) == [(1,)]
    assert run_sql(RECORDED) == [(1,)]
    assert lines == [
        "patients.9001_sample: a table is in use. Attempt 2 in 0.5 s…",
        "patients.9001_sample: a table is in use. Attempt 3 in 1 s…",
    ]


def test_a_migration_that_never_gets_its_locks_says_so_and_leaves_nothing(
    apply: Callable[..., None], open_session: Callable[[], Any], executor: PatientExecutor, run_sql: Run
) -> None:
    executor.patience = 0.7
    open_session().cursor().execute("SELECT 1 FROM patients_patientevent LIMIT 1")
    with pytest.raises(CommandError, match=r"patients\.9001_sample was not applied: .* then run `migrate` again\.$"):
        apply(ADD_FIELD, RunSQL("ALTER TABLE patients_patientevent ADD COLUMN chart text"))
    assert run_sql(COLUMN) == run_sql(RECORDED) == [(0,)]


def test_locks_that_a_migration_has_are_not_held_while_it_waits_long_for_others(
    apply: Callable[..., None],
    open_session: Callable[[], Any],
    executor: PatientExecutor,
    reports: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(executor_module, "LOCK_TIMEOUT", 30.0)
    monkeypatch.setattr(executor_module, "LOCKED_SECONDS", 0.05)
    executor.patience = 0.2
    open_session().cursor().execute("SELECT 1 FROM patients_patientevent LIMIT 1")
    slow = [RunSQL("SELECT pg_sleep(0.1)"), RunSQL("ALTER TABLE patients_patientevent ADD COLUMN chart text")]
    with pytest.raises(CommandError, match="was not applied"):
        apply(ADD_FIELD, *slow)  # waits 20 ms for the second lock, not 30 s


def test_an_index_is_built_while_a_transaction_writes_to_the_table(
    apply: Callable[..., None], open_session: Callable[[], Any], run_sql: Run, upgraded: Any
) -> None:
    def build() -> None:
        connections[ALIAS] = upgraded  # each thread has its own
        apply(ADD_INDEX, atomic=False)

    writer, other = open_session(), open_session()
    other.autocommit = True
    building_now = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND datname = current_database()"
    )
    writer.cursor().execute("UPDATE patients_patient SET phone = '1' WHERE id = 1")
    with ThreadPoolExecutor() as pool:
        building = pool.submit(build)
        with other.cursor() as cursor:
            while not building.done():
                cursor.execute(building_now)
                if cursor.fetchone() == (1,):
                    break
            assert not building.done()
            cursor.execute("SET lock_timeout = '100ms'; UPDATE patients_patient SET phone = '2' WHERE id = 2")
        writer.commit()
        building.result()
    assert run_sql(VALID) == [(True,)]


def test_an_index_that_an_interrupted_attempt_has_left_invalid_is_built_again(
    apply: Callable[..., None], run_sql: Run
) -> None:
    with pytest.raises(IntegrityError):
        run_sql("CREATE UNIQUE INDEX CONCURRENTLY patient_sample ON patients_patient (gender)")
    assert run_sql(VALID) == [(False,)]
    apply(ADD_INDEX, atomic=False)
    assert run_sql(VALID) == [(True,)]


def test_an_index_of_an_attempt_that_was_not_recorded_stays(apply: Callable[..., None], run_sql: Run) -> None:
    run_sql("CREATE INDEX patient_sample ON patients_patient (name)")
    before = run_sql("SELECT 'patient_sample'::regclass::oid")
    apply(ADD_INDEX, atomic=False)
    assert run_sql("SELECT 'patient_sample'::regclass::oid") == before
    assert run_sql(RECORDED) == [(1,)]


def test_a_backfill_fills_rows_without_history_version_or_time_of_change(
    apply: Callable[..., None], open_session: Callable[[], Any], run_sql: Run
) -> None:
    stamps = "SELECT id, version, updated_at FROM patients_patient ORDER BY id"
    events = "SELECT count(*) FROM patients_patientevent"
    before = run_sql(stamps), run_sql(events)
    apply(FILL, atomic=False)
    assert (run_sql(stamps), run_sql(events)) == before
    assert run_sql("SELECT count(*) FROM patients_patient WHERE address = 'Chart ' || id") == [(100,)]
    run_sql("UPDATE patients_patient SET phone = '1' WHERE id = 1")
    assert run_sql("SELECT version FROM patients_patient WHERE id = 1") == [(2,)]
    assert run_sql(events) == [(before[1][0][0] + 1,)]


def test_a_backfill_passes_by_a_row_in_use_later_and_continues_after_an_interruption(
    apply: Callable[..., None], open_session: Callable[[], Any], run_sql: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("healthcare.migration_operations.LOCK_PATIENCE", 0.1)
    filled = "SELECT count(*) FROM patients_patient WHERE address LIKE 'Chart%'"
    writer = open_session()
    writer.cursor().execute("UPDATE patients_patient SET phone = '1' WHERE id = 45")
    with pytest.raises(CommandError, match="it continues"):
        apply(FILL, atomic=False)
    assert run_sql(filled) == [(30,)]  # the first batch, and nothing of the second
    assert run_sql(RECORDED) == [(0,)]
    writer.rollback()
    run_sql("UPDATE patients_patient SET address = 'Chart of its own' WHERE id = 1")
    apply(FILL, atomic=False)
    assert run_sql(filled) == [(100,)]
    assert run_sql("SELECT address FROM patients_patient WHERE id = 1") == [("Chart of its own",)]


def test_a_request_cannot_pass_a_change_off_as_a_backfill(run_sql: Run) -> None:
    run_sql(
        f"SET ROLE {ROLE}; SET app.user_id = '1'; SET app.backfill = 'on'; "  # noqa: S608
        "UPDATE patients_patient SET phone = '1' WHERE id = 1; RESET ROLE; RESET app.backfill; RESET app.user_id"
    )
    assert run_sql("SELECT version FROM patients_patient WHERE id = 1") == [(2,)]
    assert run_sql("SELECT count(*) FROM patients_patientevent WHERE id = 1 AND pgh_label = 'update'") == [(1,)]


def test_a_login_with_rights_on_rows_alone_cannot_either(upgraded: Any, run_sql: Run) -> None:
    with closing(admin_connection(upgraded.settings_dict["NAME"])) as admin, admin.cursor() as cursor:
        cursor.execute("CREATE ROLE upgrade_clerk BYPASSRLS; GRANT SELECT, UPDATE ON patients_patient TO upgrade_clerk")
        try:
            cursor.execute(
                "SET SESSION AUTHORIZATION upgrade_clerk; SET app.backfill = 'on'; "
                "UPDATE patients_patient SET phone = '1' WHERE id = 1; RESET SESSION AUTHORIZATION"
            )
        finally:
            cursor.execute("RESET SESSION AUTHORIZATION; DROP OWNED BY upgrade_clerk; DROP ROLE upgrade_clerk")
    assert run_sql("SELECT version FROM patients_patient WHERE id = 1") == [(2,)]
    assert run_sql("SELECT count(*) FROM patients_patientevent WHERE id = 1 AND pgh_label = 'update'") == [(1,)]


def test_the_second_migrate_waits_for_the_first_and_says_so(upgraded: Any) -> None:
    lines, order = [], []
    waiting = threading.Event()

    def report(text: str) -> None:
        lines.append(text)
        waiting.set()

    def second() -> None:
        with migration_lock(upgraded, report):
            order.append("second")

    with ThreadPoolExecutor() as pool:
        with migration_lock(upgraded, lines.append) as first:
            future = pool.submit(second)
            assert waiting.wait(60)
            first.verify()
            order.append("first")
        future.result()
    assert order == ["first", "second"]
    assert lines == ["Another process migrates this database. Waiting until it has finished…"]


def test_a_lost_lock_is_noticed_before_the_next_migration(upgraded: Any, run_sql: Run) -> None:
    lock = MigrationLock(upgraded)
    assert lock.acquire()
    run_sql(f"SELECT pg_terminate_backend({lock.connection.connection.info.backend_pid})")
    with pytest.raises(CommandError, match=r"was lost\. Run `migrate` again; it continues\."):
        lock.verify()
    lock.release()


def test_a_column_of_free_text_needs_no_rewrite(apply: Callable[..., None], run_sql: Run) -> None:
    before = run_sql("SELECT relfilenode FROM pg_class WHERE relname = 'patients_patient'")
    apply(AddField("patient", "chart", TextField(default="", db_default="")))
    assert run_sql("SELECT relfilenode FROM pg_class WHERE relname = 'patients_patient'") == before
