"""Upgrading a database with patients and doctors of the first release: nothing of its history changes."""

from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from rest_framework.test import APIClient

from accounts.models import LoginSession, User
from accounts.tokens import issue_token_pair
from audit.seals import seal_batch, seal_key
from audit.tables import Table
from doctors.models import Doctor
from healthcare.rls.access import find_access_gaps, restore_access
from patients.models import Patient

pytestmark = pytest.mark.slow

CHANGES = [("patients", "death_identifiers_contacts"), ("doctors", "experience_since")]
TABLES = ["patients_patientevent", "doctors_doctorevent"]
INSERT_PATIENT = """
INSERT INTO patients_patient (name, gender, deceased, identifier, phone, email, address, version, created_at,
    updated_at, created_by_id) VALUES (%s, 'U', %s, '', '', '', '', 1, now(), now(), %s)
"""
INSERT_DOCTOR = """
INSERT INTO doctors_doctor (name, specialization, license_number, phone, email, hospital, experience_years, version,
    created_at, updated_at, created_by_id) VALUES (%s, '', '', '', '', '', %s, 1, now(), now(), %s)
"""
BEFORE_TOKENS = ("accounts", "0020_hand_over_permissions")
INSERT_SESSION = """
INSERT INTO accounts_loginsession (user_id, token_id, previous_token_id, user_agent, created_at, rotated_at,
    last_used_at, expires_at) VALUES (%s, %s, '', '', now(), now(), now(), now() + interval '1 day')
"""
# The event says that it happened six years ago.
MAKE_OLD = """
ALTER TABLE doctors_doctorevent DISABLE TRIGGER USER;
UPDATE doctors_doctorevent SET pgh_created_at = '2020-06-01' WHERE pgh_label = 'insert';
ALTER TABLE doctors_doctorevent ENABLE TRIGGER USER;
"""


def rows(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []


def migrate(targets: list[tuple[str, str]]) -> None:
    rows("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")  # as at the start of a transaction
    executor = MigrationExecutor(connection)
    executor.migrate(targets)
    restore_access(connection)  # as the command does, so that the next test of this database finds every privilege


def before_the_changes() -> list[tuple[str, str]]:
    """The last migration of each app before the one that changes its history."""
    migrations = MigrationExecutor(connection).loader.disk_migrations
    return [
        next(parent for parent in migration.dependencies if parent[0] == app)
        for app, name in CHANGES
        for key, migration in migrations.items()
        if key[0] == app and key[1].endswith(name)
    ]


def columns(table: str) -> tuple[str, ...]:
    found = rows("SELECT column_name FROM information_schema.columns WHERE table_name = %s", table)
    return tuple(sorted(name for (name,) in found))


def everything(table: str, names: tuple[str, ...]) -> list[tuple[Any, ...]]:
    return rows(f"SELECT {', '.join(names)} FROM {table} ORDER BY 1, pgh_id")  # noqa: S608


@pytest.mark.django_db(transaction=True)  # indexes are created and dropped concurrently, outside a transaction
def test_unsaid_becomes_unknown_and_no_seal_breaks(alice: User, settings: Any) -> None:
    settings.AUDIT_SEAL_KEY = "k" * 40
    latest = MigrationExecutor(connection).loader.graph.leaf_nodes()
    migrate([*before_the_changes(), BEFORE_TOKENS])
    rows(INSERT_SESSION, alice.pk, "a" * 32)
    rows(INSERT_PATIENT, "Alive", False, alice.pk)
    rows(INSERT_PATIENT, "Dead", True, alice.pk)
    rows(INSERT_DOCTOR, "Dr. Rao", 12, alice.pk)
    rows("UPDATE doctors_doctor SET hospital = 'City'")  # says nothing about the years
    rows(INSERT_DOCTOR, "Dr. New", None, alice.pk)
    rows(MAKE_OLD)
    stamps = (
        rows("SELECT id, version, updated_at FROM patients_patient ORDER BY id"),
        rows("SELECT id, version, updated_at FROM doctors_doctor ORDER BY id"),
    )
    before = {table: (columns(table), everything(table, columns(table))) for table in TABLES}
    for table, (names, _) in before.items():
        assert seal_batch(seal_key(), Table(table, "pgh_id", "pgh_created_at", names), 2**62)
    migrate(latest)
    assert find_access_gaps(connection) == []
    call_command("verify_audit")
    for table, (names, events) in before.items():
        assert everything(table, names) == events
    assert dict(Patient.objects.values_list("name", "deceased")) == {"Alive": None, "Dead": True}
    assert dict(Doctor.objects.values_list("name", "experience_since")) == {"Dr. Rao": 2008, "Dr. New": None}
    assert rows("SELECT experience_since FROM doctors_doctorevent ORDER BY pgh_id") == [(2008,), (2008,), (None,)]
    assert stamps == (
        rows("SELECT id, version, updated_at FROM patients_patient ORDER BY id"),
        rows("SELECT id, version, updated_at FROM doctors_doctor ORDER BY id"),
    )
    Patient.objects.filter(name="Alive").update(phone="1")
    Doctor.objects.filter(name="Dr. Rao").update(phone="1")
    assert rows("SELECT version FROM patients_patient WHERE name = 'Alive'") == [(2,)]
    assert rows("SELECT version FROM doctors_doctor WHERE name = 'Dr. Rao'") == [(3,)]
    call_command("seal_audit")
    call_command("verify_audit")
    check_that_the_login_goes_on()


def check_that_the_login_goes_on() -> None:
    """A session of before the upgrade is one of a login, whose tokens work."""
    session = LoginSession.objects.get()
    assert (session.kind, session.scope, session.secret_hash) == ("session", "", None)
    pair = issue_token_pair(session)  # the same that a server of the earlier release has issued
    client = APIClient()
    refreshed = client.post("/api/auth/refresh/", {"refresh": pair["refresh"]})
    assert refreshed.status_code == 200
    for access in (pair["access"], refreshed.json()["access"]):
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {access}")
        assert {patient["name"] for patient in client.get("/api/patients/").json()} == {"Alive", "Dead"}
