"""The triggers that every writer meets, and that a changed one is noticed."""

import datetime
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection

from accounts.models import User
from audit.history import Recorder
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.api.triggers import ExpiredRecordsTrigger
from healthcare.database_objects import DECLARED
from healthcare.fastpath.triggers import TableVersionTrigger, TruncateVersionTrigger
from healthcare.ownership import Record, VersionTrigger
from healthcare.search.triggers import SearchDeleteTrigger, SearchInsertTrigger, SearchUpdateTrigger
from mappings.tests.factories import make_mapping
from patients.tests.factories import make_patient

RECORDS: dict[str, Callable[[User], Record]] = {
    "patients_patient": make_patient,
    "doctors_doctor": make_doctor,
    "mappings_mapping": lambda alice: make_mapping(make_patient(alice), make_doctor(alice)),
}
# A change of one column, for each table.
CHANGES = {"patients_patient": "name = 'New'", "doctors_doctor": "name = 'New'", "mappings_mapping": "reason = 'New'"}


def update(table: str, key: int, changes: str) -> tuple[int, datetime.datetime, datetime.datetime]:
    """The version and the time of the last change after this UPDATE, and the time now on the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET {changes} WHERE id = %s", [key])  # noqa: S608
        cursor.execute(f"SELECT version, updated_at, clock_timestamp() FROM {table} WHERE id = %s", [key])  # noqa: S608
        version, updated_at, now = cursor.fetchone()
        return version, updated_at, now


@pytest.mark.parametrize("table", RECORDS)
def test_an_update_in_sql_counts_the_version_up(alice: User, table: str) -> None:
    record = RECORDS[table](alice)
    version, updated_at, now = update(table, record.pk, CHANGES[table])
    assert version == record.version + 1
    assert record.updated_at < updated_at <= now


@pytest.mark.parametrize("table", RECORDS)
def test_no_update_sets_the_version_or_the_time_of_the_last_change(alice: User, table: str) -> None:
    record = RECORDS[table](alice)
    changes = f"{CHANGES[table]}, version = 99, updated_at = '2001-01-01T00:00:00Z'"
    version, updated_at, _ = update(table, record.pk, changes)
    assert version == record.version + 1
    assert updated_at > record.updated_at
    assert update(table, record.pk, "version = 1")[0] == version + 1


@pytest.mark.parametrize("table", RECORDS)
def test_an_update_that_changes_nothing_is_no_change(alice: User, table: str) -> None:
    record = RECORDS[table](alice)
    version, updated_at, _ = update(table, record.pk, "created_by_id = created_by_id")
    assert (version, updated_at) == (record.version, record.updated_at)


def test_a_client_cannot_set_the_version(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    path = f"/api/patients/{patient.pk}/"
    for change in ({"version": 7}, {"version": 7, "name": "New"}, {"updated_at": "2001-01-01T00:00:00Z"}):
        as_alice.patch(path, change)
    patient.refresh_from_db()
    body = as_alice.patch(path, {"name": "Newest"}).json()
    assert body["version"] == patient.version + 1 <= 3
    assert datetime.datetime.fromisoformat(body["updated_at"]) > patient.updated_at


@pytest.mark.django_db
def test_every_record_has_the_trigger() -> None:
    tables = {model._meta.db_table for model in apps.get_models() if issubclass(model, Record)}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname LIKE 'pgtrigger_version_%' AND tgenabled = 'O'"
        )
        assert {row[0] for row in cursor.fetchall()} == tables


def check_migrations() -> None:
    call_command("makemigrations", check_changes=True, dry_run=True, verbosity=0)


@pytest.mark.django_db
def test_the_migrations_hold_the_triggers_as_they_are_declared() -> None:
    check_migrations()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "trigger",
    [
        VersionTrigger,
        TableVersionTrigger,
        TruncateVersionTrigger,
        ExpiredRecordsTrigger,
        SearchInsertTrigger,
        SearchUpdateTrigger,
        SearchDeleteTrigger,
        Recorder,
    ],
)
def test_makemigrations_notices_a_changed_trigger(trigger: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger, "get_func", lambda self, model: "RETURN NULL;")
    with pytest.raises(SystemExit):
        check_migrations()


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.parametrize("key", DECLARED, ids=str)
def test_makemigrations_notices_a_changed_or_missing_database_object(
    key: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DECLARED, key, replace(DECLARED[key], create=f"{DECLARED[key].create} -- changed"))
    with pytest.raises(SystemExit):
        check_migrations()
    monkeypatch.delitem(DECLARED, key)
    with pytest.raises(SystemExit):
        check_migrations()
