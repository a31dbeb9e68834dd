"""Every change of a row adds exactly one event, whether by the API, the ORM, a command or psql."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psycopg2
import pytest
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models import F

from accounts.models import User
from audit.models import UserEvent
from conftest import LoggedInClient
from doctors.models import DoctorEvent
from doctors.tests.factories import make_doctor
from healthcare.rls.context import enter
from healthcare.tests.live import LiveServer
from mappings.models import MappingEvent
from mappings.tests.factories import make_mapping
from patients.models import Patient, PatientEvent
from patients.tests.factories import make_patient


def events(model: Any = PatientEvent) -> list[tuple[str, dict[str, Any]]]:
    return [(event.pgh_label, event.pgh_context) for event in model.objects.order_by("pgh_id")]


def test_a_change_by_the_api_adds_one_event_with_actor_and_reason(as_alice: LoggedInClient, alice: User) -> None:
    created = as_alice.post("/api/patients/", {"name": "Ana"})
    path = f"/api/patients/{created.json()['id']}/"
    reason = "moved house – straße".encode().decode("latin-1")  # as a server hands UTF-8 over
    changed = as_alice.patch(path, {"address": "Bengaluru"}, headers={"X-Change-Reason": reason})
    deleted = as_alice.delete(path)
    assert events() == [
        ("insert", {"actor": alice.pk, "request_id": created["X-Request-Id"]}),
        (
            "update",
            {"actor": alice.pk, "request_id": changed["X-Request-Id"], "reason": "moved house – straße"},
        ),
        ("update", {"actor": alice.pk, "request_id": deleted["X-Request-Id"]}),
    ]


def test_doctors_and_assignments_have_events_too(as_alice: LoggedInClient, alice: User) -> None:
    doctor = as_alice.post("/api/doctors/", {"name": "Meera"}).json()["id"]
    mapping = as_alice.post("/api/mappings/", {"patient": make_patient(alice).pk, "doctor": doctor}).json()["id"]
    as_alice.delete(f"/api/mappings/{mapping}/")
    assert [(label, context["actor"]) for label, context in events(DoctorEvent)] == [("insert", alice.pk)]
    assert [(label, context["actor"]) for label, context in events(MappingEvent)] == [
        ("insert", alice.pk),
        ("update", alice.pk),
    ]


def test_a_patch_with_unchanged_values_adds_no_event(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    assert as_alice.patch(f"/api/patients/{patient.pk}/", {"name": patient.name}).status_code == 200
    Patient.objects.update(name=F("name"))
    assert [label for label, _ in events()] == ["insert"]


def test_a_refused_change_adds_no_event(as_bob: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    assert as_bob.patch(f"/api/patients/{patient.pk}/", {"name": "Bob's"}).status_code == 404
    assert [label for label, _ in events()] == ["insert"]


def test_the_orm_and_bulk_updates_add_one_event_per_row(alice: User) -> None:
    patients = Patient.objects.bulk_create(Patient(created_by=alice, name=f"P{number}") for number in range(3))
    assert Patient.objects.update(address="Mysuru") == 3
    patients[0].delete()
    assert [label for label, _ in events()] == ["insert"] * 3 + ["update"] * 3 + ["delete"]
    assert {context["application"] for _, context in events()} == {"healthcare"}


def test_the_events_of_users_hold_no_password_and_no_last_login(
    anonymous: Any, make_user: Callable[..., User], as_alice: LoggedInClient, alice: User
) -> None:
    body = {"name": "Eve", "email": "eve@example.org", "password": "StrongPass123"}
    answer = anonymous.post("/api/auth/register/", body)
    as_alice.patch("/api/auth/me/", {"name": "Alice B."})
    User.objects.get(pk=alice.pk).save()
    alice.set_password("AnotherPass123")
    alice.save(update_fields=["password"])
    assert events(UserEvent)[1:] == [
        ("insert", {"actor": None, "request_id": answer["X-Request-Id"]}),
        ("update", events(UserEvent)[2][1] | {"actor": alice.pk}),
    ]
    assert not {"password", "last_login"} & {field.name for field in UserEvent._meta.get_fields()}


@pytest.mark.parametrize("reason", ["", "x" * 201, "two\nlines", "\u200b", "\xff\xfe"])
def test_a_reason_that_cannot_be_stored_is_refused(as_alice: LoggedInClient, reason: str) -> None:
    sent = reason if reason == "\xff\xfe" else reason.encode().decode("latin-1")
    answer = as_alice.post("/api/patients/", {"name": "Ana"}, headers={"X-Change-Reason": sent})
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/X-Change-Reason"]
    assert not Patient.objects.exists()


REFUSED = "permission denied|row-level security"


@pytest.mark.parametrize("table", ["patients_patientevent", "doctors_doctorevent", "mappings_mappingevent"])
@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET pgh_label = 'x'", "DELETE FROM {}", "INSERT INTO {} DEFAULT VALUES", "TRUNCATE {}"]
)
def test_callers_can_neither_insert_nor_change_events(alice: User, table: str, statement: str) -> None:
    make_mapping(make_patient(alice), make_doctor(alice))
    with transaction.atomic():
        enter(alice.pk)
        refused = pytest.raises(DatabaseError, match=REFUSED)
        with refused, transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement.format(table))


@pytest.mark.parametrize("table", ["patients_patientevent", "audit_userevent", "audit_accesslog"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET request_id = ''", "DELETE FROM {}"])
def test_the_owner_of_the_tables_cannot_change_events(
    as_alice: LoggedInClient, alice: User, table: str, statement: str
) -> None:
    make_patient(alice)
    as_alice.get("/api/patients/")
    column = "request_id" if table == "audit_accesslog" else "pgh_label"
    refused = pytest.raises(DatabaseError, match="Cannot update or delete")
    with refused, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement.format(table).replace("request_id", column))


def test_no_session_setting_or_temporary_table_prevents_an_event(alice: User) -> None:
    patient = make_patient(alice)
    create = "CREATE TEMP TABLE patients_patientevent (LIKE public.patients_patientevent) ON COMMIT DROP"
    with transaction.atomic():
        with connection.cursor() as cursor:  # as the owner: the role of API requests may create none
            cursor.execute(create)
        enter(alice.pk)
        with connection.cursor() as cursor:
            names = "SELECT array_agg(tgname) FROM pg_trigger WHERE tgrelid = 'patients_patient'::regclass"
            cursor.execute(f"SELECT set_config('pgtrigger.ignore', ({names})::text, true)")
            cursor.execute("UPDATE patients_patient SET name = 'X' WHERE id = %s", [patient.pk])
            cursor.execute("RESET role")
            cursor.execute("DROP TABLE pg_temp.patients_patientevent")
    assert [label for label, _ in events()] == ["insert", "update"]


def test_a_caller_sees_only_events_of_own_rows(alice: User, bob: User) -> None:
    for owner in (alice, bob):
        make_mapping(make_patient(owner), make_doctor(owner))
    for user_id, seen in ((alice.pk, [1, 1, 2, 1]), (None, [0, 0, 0, 0])):
        with transaction.atomic():
            enter(user_id)
            counts = [model.objects.count() for model in (PatientEvent, MappingEvent, DoctorEvent, UserEvent)]
            transaction.set_rollback(True)
        assert counts == seen


@pytest.fixture
def database_session(live: LiveServer) -> Any:
    opened = psycopg2.connect(live.database_url, application_name="psql")
    opened.autocommit = True
    with opened.cursor() as cursor:
        yield cursor
    opened.close()


def test_changes_by_a_command_and_by_psql_are_recorded_with_login_and_program(
    live: LiveServer, database_session: Any
) -> None:
    user, tokens = live.register()
    patient = live.call("POST", "/api/patients/", {"name": "Ana"}, tokens["access"]).json["id"]
    database_session.execute("UPDATE patients_patient SET address = 'psql' WHERE id = %s", [patient])
    code = f"from patients.models import Patient; Patient.objects.filter(pk={patient}).update(address='shell')"
    command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", code]
    subprocess.run(command, check=True, cwd=settings.BASE_DIR, env={**os.environ, **live.environment})
    database_session.execute(
        "SELECT address, pgh_context FROM patients_patientevent WHERE id = %s ORDER BY pgh_id", [patient]
    )
    (_, by_api), (_, by_psql), (last, by_shell) = database_session.fetchall()
    database_session.execute("SELECT session_user")
    login = database_session.fetchone()[0]
    assert by_api["actor"] == user["id"]
    assert by_psql == {"login": login, "application": "psql"}
    assert (last, by_shell) == ("shell", {"login": login, "application": "manage.py shell"})
