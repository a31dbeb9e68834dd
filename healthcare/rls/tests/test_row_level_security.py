"""Row-level security protects the records of each user, also where the scopes of the code are missing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.db.models import QuerySet
from django.test import RequestFactory
from drf_spectacular.generators import EndpointEnumerator
from pytest_django import Settings
from rest_framework.generics import ListAPIView
from rest_framework.permissions import AllowAny

from accounts.authentication import SessionJWTAuthentication
from accounts.models import LoginSession, User
from accounts.tokens import issue_token_pair
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from healthcare.ownership import OwnedQuerySet
from healthcare.rls.checks import declared_policies
from healthcare.rls.context import enter
from healthcare.tests.declarations import described_rows
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.models import Patient
from patients.serializers import PatientSerializer
from patients.tests.factories import make_patient

PROTECTED_TABLES = ["patients_patient", "mappings_mapping", "accounts_user", "accounts_loginsession"]


@pytest.fixture
def alices(alice: User) -> tuple[Patient, Doctor, Mapping]:
    patient, doctor = make_patient(alice), make_doctor(alice)
    return patient, doctor, make_mapping(patient, doctor)


@pytest.fixture
def without_scopes(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """Every scope of the code answers all rows. The fast path, which compiles scopes once, is off."""
    settings.FAST_PATH = "off"
    monkeypatch.setattr(OwnedQuerySet, "owned_by", lambda queryset, user: queryset)


def rows(table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")  # noqa: S608  (names from above)
        return int(cursor.fetchone()[0])


@contextmanager
def entered(user_id: int | None) -> Iterator[None]:
    """As this caller, and back to before whatever happened inside."""
    with transaction.atomic():
        enter(user_id)
        yield
        transaction.set_rollback(True)


@pytest.mark.usefixtures("without_scopes")
def test_without_scopes_row_level_security_hides_alices_records_from_bob(
    as_bob: LoggedInClient, as_alice: LoggedInClient, alices: Any
) -> None:
    patient, doctor, mapping = alices
    assert as_bob.get("/api/patients/").json() == []
    assert as_bob.get("/api/mappings/").json() == []
    for path in (
        f"/api/patients/{patient.pk}/",
        f"/api/mappings/{patient.pk}/",
        f"/api/patients/{patient.pk}/doctors/",
    ):
        assert as_bob.get(path).status_code == 404
    assert as_bob.patch(f"/api/patients/{patient.pk}/", {"name": "Bob's"}).status_code == 404
    assert as_bob.delete(f"/api/patients/{patient.pk}/").status_code == 404
    assert as_bob.delete(f"/api/mappings/{mapping.pk}/").status_code == 404
    assert as_bob.post("/api/mappings/", {"patient": patient.pk, "doctor": doctor.pk}).status_code == 400
    assert len(as_alice.get("/api/patients/").json()) == 1
    assert Patient.objects.get().name == "John Smith"


def test_raw_sql_sees_and_changes_the_callers_rows_alone(alice: User, bob: User, alices: Any) -> None:
    make_patient(bob)
    LoginSession.objects.start(alice, "", None)
    for user_id, seen in ((alice.pk, [1, 1, 1, 1]), (bob.pk, [1, 0, 1, 0]), (None, [0, 0, 0, 0])):
        with entered(user_id):
            assert [rows(table) for table in PROTECTED_TABLES] == seen
    with entered(bob.pk), connection.cursor() as cursor:
        cursor.execute("UPDATE patients_patient SET name = 'Bob''s'")
        assert cursor.rowcount == 1


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO patients_patient (name, gender, identifier, identifiers, phone, alternate_phone, email, address,"
        " language, contacts, medical_history, version, created_at, updated_at, created_by_id)"
        " SELECT 'X', 'U', '', '[]', '', '', '', '', '', '[]', '', 1, now(), now(), %(alice)s",
        "UPDATE patients_patient SET created_by_id = %(alice)s WHERE id = %(bobs)s",
        "UPDATE patients_patient SET merged_into_id = %(alices)s, deleted_at = now() WHERE id = %(bobs)s",
        "INSERT INTO mappings_mapping (patient_id, doctor_id, role, is_primary, reason, notes, started_at, version,"
        " created_at, updated_at, created_by_id)"
        " SELECT %(alices)s, %(doctor)s, '', false, '', '', now(), 1, now(), now(), %(bob)s",
        "DELETE FROM patients_patient",
        "DELETE FROM mappings_mapping",
        "DELETE FROM doctors_doctor",
        "TRUNCATE patients_patient CASCADE",
        "DELETE FROM accounts_user",
        "UPDATE accounts_user SET is_staff = true",
        "UPDATE accounts_user SET is_superuser = true",
        "UPDATE accounts_user SET is_active = true",
        "INSERT INTO accounts_loginsession (user_id) VALUES (%(bob)s)",
        "UPDATE accounts_loginsession SET expires_at = now() + interval '9 years'",
        "UPDATE accounts_loginsession SET user_id = %(alice)s",
        "SELECT * FROM accounts_attempts",
        "SELECT * FROM django_session",
        "SELECT * FROM patients_erasurereceipt",
        "SELECT * FROM auth_permission",
        "ALTER TABLE patients_patient DISABLE ROW LEVEL SECURITY",
        "CREATE TABLE mine (id int)",
        "COPY patients_patient TO '/tmp/leak'",
        "SELECT pg_read_file('/etc/passwd')",
    ],
)
def test_the_role_may_not(bob: User, alice: User, alices: Any, statement: str) -> None:
    patient, doctor, _ = alices
    ids = {"alice": alice.pk, "bob": bob.pk, "alices": patient.pk, "doctor": doctor.pk, "bobs": make_patient(bob).pk}
    with (
        entered(bob.pk),
        connection.cursor() as cursor,
        pytest.raises(DatabaseError, match=r"permission|policy|owner"),
    ):
        cursor.execute(statement, ids)


def test_an_anonymous_caller_adds_no_doctor_even_in_sql(alices: Any) -> None:
    with entered(None), connection.cursor() as cursor:
        assert rows("doctors_doctor") == 1
        cursor.execute("UPDATE doctors_doctor SET name = 'X'")
        assert cursor.rowcount == 0


def test_a_view_without_authentication_answers_no_records(alices: Any, bob: User) -> None:
    class UnauthenticatedView(ListAPIView):
        permission_classes = [AllowAny]
        serializer_class = PatientSerializer

        def get_queryset(self) -> QuerySet[Patient]:
            return Patient.objects.all()

    token = issue_token_pair(LoginSession.objects.start(bob, "", None))["access"]
    for headers in ({}, {"Authorization": f"Bearer {token}"}):
        with transaction.atomic():
            answer = UnauthenticatedView.as_view()(RequestFactory().get("/", headers=headers))
            assert (answer.status_code, answer.data) == (200, [])
            transaction.set_rollback(True)


def test_every_api_route_enters_the_database_but_those_without_a_caller() -> None:
    # Registering and logging in run before there is a caller; the description of the API reads no row.
    without_caller = {f"/{row.route}" for row in described_rows() if row.access == "OPEN"} | {"/api/schema/"}
    found = {path for path, view in api_views() if SessionJWTAuthentication not in view.authentication_classes}
    assert found == without_caller


def api_views() -> list[tuple[str, Any]]:
    endpoints = EndpointEnumerator().get_api_endpoints()
    return [
        (path, callback.cls(**callback.initkwargs))
        for path, _, _, callback in endpoints
        if path.startswith("/api/") and not callback.cls.__module__.startswith("drf_spectacular")
    ]


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_every_policy_is_removed_by_reversing_its_migration_and_created_again() -> None:
    declared = declared_policies()
    try:
        call_command("migrate", "audit", "zero", verbosity=0)
        for app in sorted({app for app, _ in declared}):
            call_command("migrate", app, "zero" if app == "audit" else "0001", verbosity=0)
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_policies")
            assert cursor.fetchone() == (0,)
    finally:
        call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename, count(*) FROM pg_policies GROUP BY tablename")
        created = dict(cursor.fetchall())
    assert created == {
        apps.get_model(*key)._meta.db_table: len(policies.policies)
        for key, policies in declared.items()
        if policies.policies
    }
