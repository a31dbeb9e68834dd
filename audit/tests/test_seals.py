"""The seals detect what a superuser changes with the triggers disabled, and name the row."""

import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import psycopg2
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection

from accounts.models import User
from audit.erasure import forget_accesses, forget_events
from audit.models import AccessLog, Seal
from audit.seals import seal_batch, seal_key
from audit.tables import Table
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.tests.live import LiveServer
from mappings.models import MappingEvent
from mappings.tests.factories import make_mapping
from patients.models import Patient, PatientEvent
from patients.tests.factories import make_patient


def seal() -> str:
    printed = StringIO()
    call_command("seal_audit", stdout=printed, stderr=StringIO())
    return printed.getvalue().strip()


def verify(**options: Any) -> str:
    printed = StringIO()
    call_command("verify_audit", stdout=printed, stderr=StringIO(), **{"full": True, **options})
    return printed.getvalue()


@contextmanager
def superuser() -> Iterator[Any]:
    """A connection that may disable triggers."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        yield cursor
        cursor.execute("SET LOCAL session_replication_role = origin")


@pytest.fixture
def patient(alice: User, as_alice: LoggedInClient) -> Patient:
    """A patient with a history and accesses in three seals each."""
    patient = make_patient(alice)
    make_mapping(patient, make_doctor(alice))
    for number in range(3):
        as_alice.patch(f"/api/patients/{patient.pk}/", {"name": f"N{number}"})
        as_alice.get("/api/patients/")
        seal()
    return patient


def middle(model: Any) -> int:
    """The key of a row in the middle of its table."""
    keys = list(model.objects.order_by("pk").values_list("pk", flat=True))
    return int(keys[len(keys) // 2])


def test_unaltered_rows_verify(patient: Patient, as_alice: LoggedInClient) -> None:
    assert "are unaltered, 0 of them erased with a patient; 0 rows are not sealed yet." in verify()
    as_alice.get("/api/patients/")
    assert "1 rows are not sealed yet" in verify()
    sealed = Seal.objects.count()
    seal()
    seal()
    assert Seal.objects.count() == sealed + 1
    assert "0 rows are not sealed yet" in verify()


MODELS = [PatientEvent, AccessLog]
SEAL_KEY = secrets.token_urlsafe(32)
ALTER = {PatientEvent: "address = 'elsewhere'", AccessLog: "actor = actor + 1"}


@pytest.mark.parametrize("model", MODELS)
def test_an_altered_row_is_reported(patient: Patient, model: Any) -> None:
    table, key = model._meta.db_table, middle(model)
    with superuser() as cursor:
        cursor.execute(f"UPDATE {table} SET {ALTER[model]} WHERE {model._meta.pk.column} = %s", [key])  # noqa: S608
    with pytest.raises(CommandError, match=f"^{table} {key} was altered.$"):
        verify()


@pytest.mark.parametrize("model", MODELS)
def test_a_removed_row_is_reported(patient: Patient, model: Any) -> None:
    table, key = model._meta.db_table, middle(model)
    with superuser() as cursor:
        cursor.execute(f"DELETE FROM {table} WHERE {model._meta.pk.column} = %s", [key])  # noqa: S608
    with pytest.raises(CommandError, match=f"^{table} {key} is missing.$"):
        verify()


@pytest.mark.parametrize("model", MODELS)
def test_a_row_inserted_among_sealed_rows_is_reported(patient: Patient, model: Any) -> None:
    table, key = model._meta.db_table, model._meta.pk.column
    rest = ", ".join(f'"{field.column}"' for field in model._meta.concrete_fields if field.column != key)
    with superuser() as cursor:
        copy = f"INSERT INTO {table} ({key}, {rest}) SELECT %s, {rest} FROM {table} WHERE {key} = %s"  # noqa: S608
        cursor.execute(copy, [-5, middle(model)])
    with pytest.raises(CommandError, match=f"^{table} -5 was inserted after its time was sealed.$"):
        verify()


@pytest.mark.parametrize("sealed", [False, True])
def test_a_row_inserted_with_an_old_date_is_reported(patient: Patient, sealed: bool) -> None:
    with superuser() as cursor:
        cursor.execute(
            "INSERT INTO audit_accesslog (at, actor, action, patient_ids, basis, request_id, outcome) "
            "VALUES (now() - interval '3 days', 7, 'patient.retrieve', '{}', 'owner', '', 200) RETURNING id"
        )
        (key,) = cursor.fetchone()
    if sealed:
        seal()
    with pytest.raises(CommandError, match=f"^audit_accesslog {key} was inserted with a date before rows sealed"):
        verify()


@pytest.mark.parametrize(
    "change",
    ["DELETE FROM audit_seal WHERE id = {}", "UPDATE audit_seal SET last_id = last_id + 1 WHERE id = {}"]
    + ["UPDATE audit_seal SET code = repeat('0', 64) WHERE id = {}", "UPDATE audit_seal SET at = now() WHERE id = {}"],
)
def test_an_altered_seal_is_found(patient: Patient, change: str) -> None:
    with superuser() as cursor:
        cursor.execute(change.format(middle(Seal)))
    with pytest.raises(CommandError, match=r"^audit_seal \d+ was altered, or one before it is missing.$"):
        verify()


def test_expect_finds_rows_removed_together_with_their_seals(patient: Patient, as_alice: LoggedInClient) -> None:
    as_alice.get("/api/patients/")
    printed = seal()
    assert "are unaltered" in verify(expect=printed)
    last = Seal.objects.latest("id")
    with superuser() as cursor:
        cursor.execute("DELETE FROM audit_accesslog WHERE id = ANY(%s)", [last.row_ids])
    with pytest.raises(CommandError, match=f"^audit_accesslog {last.row_ids[0]} is missing.$"):
        verify()
    with superuser() as cursor:
        cursor.execute("DELETE FROM audit_seal WHERE id = %s", [last.pk])
    assert "are unaltered" in verify()  # the chain alone cannot detect it
    with pytest.raises(CommandError, match=f"^audit_seal {last.pk} is missing: the chain's end was removed.$"):
        verify(expect=printed)


def test_verification_fails_without_any_seal(patient: Patient) -> None:
    with superuser() as cursor:
        cursor.execute("DELETE FROM audit_seal")
    with pytest.raises(CommandError, match="There is no seal"):
        verify()


def test_verification_fails_with_another_key(patient: Patient, settings: Any) -> None:
    settings.AUDIT_SEAL_KEY = "another key of at least 32 characters"
    with pytest.raises(CommandError, match="^audit_seal"):
        verify()
    settings.AUDIT_SEAL_KEY = ""
    for command in ("seal_audit", "verify_audit"):
        with pytest.raises(CommandError, match="^AUDIT_SEAL_KEY is not set; write AUDIT_SEAL_KEY="):
            call_command(command)


@pytest.mark.parametrize("bad", ["x", "1", "1:abc", ":" + "0" * 64])
def test_expect_refuses_an_invalid_seal(bad: str) -> None:
    with pytest.raises(CommandError, match="--expect takes a line"):
        verify(expect=bad)


def test_the_chain_verifies_after_an_erasure(patient: Patient, as_alice: LoggedInClient, alice: User) -> None:
    make_patient(alice, name="stays")
    as_alice.get("/api/patients/")
    as_alice.get(f"/api/patients/{patient.pk}/")
    seal()
    events = PatientEvent.objects.filter(id=patient.pk)
    assert forget_events(events) == 4
    assert forget_events(MappingEvent.objects.filter(patient=patient)) == 1
    shared = AccessLog.objects.filter(patient_ids__len=2)
    assert forget_accesses([patient.pk]) == 8
    assert not events.exists()
    assert not AccessLog.objects.filter(patient_ids__contains=[patient.pk]).exists()
    assert not shared.exists()
    assert AccessLog.objects.filter(patient_ids__len=1).count() == 1
    assert "13 of them erased with a patient" in verify()
    seal()
    assert "13 of them erased with a patient" in verify()


def test_rows_sealed_before_a_column_was_added_verify(patient: Patient) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE patients_patientevent ADD COLUMN blood_group text NOT NULL DEFAULT ''")
    assert "are unaltered" in verify()


def test_many_rows_are_sealed_in_batches(patient: Patient) -> None:
    table, values = Table.of(AccessLog), "clock_timestamp(), 1, 'x', '{}'::bigint[], 'owner', '', 200"
    names = "at, actor, action, patient_ids, basis, request_id, outcome"
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO audit_accesslog ({names}) SELECT {values} FROM generate_series(1, 2500)")  # noqa: S608
    assert [seal_batch(seal_key(), table, table.settled()) for _ in range(4)] == [1000, 1000, 500, 0]
    assert "0 rows are not sealed yet" in verify()


def run(live: LiveServer, *command: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, **live.environment, "AUDIT_SEAL_KEY": SEAL_KEY}
    manage = [sys.executable, "-m", "django", *command]
    return subprocess.run(manage, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def connect(live: LiveServer) -> Iterator[Any]:
    opened: list[Any] = []

    def new() -> Any:
        opened.append(psycopg2.connect(live.database_url))
        return opened[-1]

    yield new
    for each in opened:
        each.close()


@pytest.mark.slow
def test_the_exit_status_is_1_after_tampering(live: LiveServer, connect: Any) -> None:
    _, tokens = live.register()
    patient = live.call("POST", "/api/patients/", {"name": "Ana"}, tokens["access"]).json["id"]
    assert run(live, "seal_audit").returncode == 0
    assert run(live, "verify_audit").returncode == 0
    tampering = connect()
    tampering.autocommit = True
    with tampering.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("UPDATE patients_patientevent SET name = 'Eve' WHERE id = %s RETURNING pgh_id", [patient])
        (key,) = cursor.fetchone()
        found = run(live, "verify_audit", "--full")
        cursor.execute("UPDATE patients_patientevent SET name = 'Ana' WHERE id = %s", [patient])
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr == f"CommandError: patients_patientevent {key} was altered.\n"
    assert run(live, "verify_audit").returncode == 0


def wait_until_waiting(watching: Any) -> None:
    """Wait until a seal has checked again whether the current writers have ended."""
    looks = (
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND state = 'idle' AND query LIKE 'SELECT virtualtransaction%audit_accesslog%'"
    )
    for _ in range(1200):
        with watching, watching.cursor() as cursor:
            cursor.execute(looks)
            if cursor.fetchone() is not None:
                return
        time.sleep(0.05)
    raise AssertionError("no seal waits")


def test_a_transaction_that_does_not_end_is_reported(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    monkeypatch.setattr("audit.tables.SETTLE_TIMEOUT", 0.2)
    writer = psycopg2.connect(**{**connection.get_connection_params(), "cursor_factory": None})
    with writer.cursor() as cursor:
        cursor.execute("LOCK TABLE audit_accesslog IN ROW EXCLUSIVE MODE")
    with pytest.raises(CommandError, match="A transaction that writes to audit_accesslog does not end"):
        Table.of(AccessLog).settled()
    writer.close()
    assert isinstance(Table.of(AccessLog).settled(), int)


def test_a_short_key_stops_every_command_with_one_sentence() -> None:
    command = [sys.executable, "-m", "django", "check"]
    environment = {**os.environ, "AUDIT_SEAL_KEY": "short", "DJANGO_SETTINGS_MODULE": "healthcare.settings"}
    ended = subprocess.run(command, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert ended.stderr.splitlines()[-1].endswith(
        "AUDIT_SEAL_KEY is too short or too easily guessed; give it at least 32 random characters or unset it."
    )


@pytest.mark.slow
def test_a_seal_waits_for_current_writers_only(live: LiveServer, connect: Any) -> None:
    early, late = connect(), connect()
    row = (
        "INSERT INTO audit_accesslog (at, actor, action, patient_ids, basis, request_id, outcome) "
        "VALUES (clock_timestamp(), 1, 'x', '{}', 'owner', '', 200) RETURNING id"
    )
    with early.cursor() as cursor:
        cursor.execute(row)
        first = cursor.fetchone()[0]
    with late.cursor() as cursor:
        cursor.execute(row)
        second = cursor.fetchone()[0]
    late.commit()
    sealing = threading.Thread(target=run, args=(live, "seal_audit"))
    sealing.start()
    wait_until_waiting(connect())
    assert sealing.is_alive()
    with late.cursor() as cursor:
        cursor.execute(row)  # writers are not blocked
    early.commit()
    sealing.join()
    late.commit()
    with late.cursor() as cursor:
        cursor.execute("SELECT row_ids FROM audit_seal WHERE \"table\" = 'audit_accesslog' ORDER BY id DESC LIMIT 1")
        assert set(cursor.fetchone()[0]) >= {first, second}
    assert run(live, "verify_audit").returncode == 0
