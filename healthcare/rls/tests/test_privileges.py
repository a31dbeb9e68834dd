"""Everything that anybody but the owner may do in the database, and what an attacker with SQL of their own may not.

Each app lists its functions, grants and policies in `tests/database_access.txt`. A new one fails here until it has been
reviewed and its line added.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError, connection, transaction
from django.test import RequestFactory
from psycopg2.errors import FeatureNotSupported, InsufficientPrivilege, LockNotAvailable, RestrictViolation
from rest_framework.request import Request

from accounts.authentication import SessionJWTAuthentication
from accounts.models import LoginSession, User
from accounts.tokens import issue_token_pair
from audit.models import AccessLog
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from healthcare.fastpath.actions import entry_statements
from healthcare.fastpath.execution import Statement, execute
from healthcare.rls import ROLE
from mappings.tests.factories import make_mapping
from patients.models import Patient
from patients.tests.factories import make_patient

# Of a record these are never granted, so that a line does not change with each new column.
FIXED_COLUMNS = {"at", "created_at", "created_by_id", "id"}
FUNCTIONS = """
SELECT coalesce(tgrelid::regclass || '.' || tgname, routine.oid::regprocedure::text),
    CASE WHEN prosecdef THEN 'with its owner''s rights' ELSE 'with the caller''s rights' END,
    coalesce(
        (SELECT string_agg(CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, ', ' ORDER BY grantee)
        FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE grantee <> proowner), 'nobody')
FROM pg_proc routine LEFT JOIN pg_trigger ON tgfoid = routine.oid
WHERE pronamespace = 'public'::regnamespace
AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = routine.oid AND deptype = 'e')
"""
GRANTS = """
SELECT class.oid::regclass::text, grantee::regrole::text, privilege_type, NULL, ARRAY[]::text[]
FROM pg_class class, aclexplode(relacl) WHERE relnamespace = 'public'::regnamespace AND grantee <> relowner
UNION ALL
SELECT class.oid::regclass::text, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, privilege_type,
    array_agg(attname::text ORDER BY attname::text), (
        SELECT array_agg(attname::text) FROM pg_attribute
        WHERE attrelid = class.oid AND attnum > 0 AND NOT attisdropped)
FROM pg_class class JOIN pg_attribute ON attrelid = class.oid, aclexplode(attacl)
WHERE relnamespace = 'public'::regnamespace AND grantee <> relowner GROUP BY class.oid, grantee, privilege_type
UNION ALL
SELECT 'database', CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, privilege_type, NULL,
    ARRAY[]::text[]
FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba)))
WHERE datname = current_database() AND grantee <> datdba
UNION ALL
SELECT 'schema public', CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, privilege_type, NULL,
    ARRAY[]::text[]
FROM pg_namespace, aclexplode(nspacl) WHERE nspname = 'public' AND grantee <> nspowner
UNION ALL
SELECT 'default privileges', defaclrole::regrole::text, defaclacl::text, NULL, ARRAY[]::text[] FROM pg_default_acl
"""
# What PostgreSQL makes of CALLER_ID_SQL, OWNER_ID_SQL and RECORD_ROLE_SQL, and how the lists name them.
USER_ID, OWNER_ID = "current_setting('app.user_id'::text, true)", "current_setting('app.owner_id'::text, true)"
OWNER_ROLE = "current_setting('app.owner_role'::text, true)"
SETTING_EXPRESSIONS = {
    f"( SELECT (NULLIF({USER_ID}, ''::text))::bigint AS nullif)": "caller",
    f"( SELECT CASE WHEN (COALESCE(NULLIF({OWNER_ID}, ''::text), {USER_ID}) = {USER_ID}) "
    f"THEN (NULLIF({USER_ID}, ''::text))::bigint WHEN (({USER_ID} <> ''::text) AND ({OWNER_ROLE} = ANY "
    f"(ARRAY['read'::text, 'write'::text, 'manage'::text]))) THEN ({OWNER_ID})::bigint ELSE NULL::bigint END "
    'AS "case")': "record_owner",
    f"( SELECT CASE WHEN (COALESCE(NULLIF({OWNER_ID}, ''::text), {USER_ID}) = {USER_ID}) THEN 'manage'::text "
    f"ELSE COALESCE({OWNER_ROLE}, ''::text) END AS coalesce)": "record_role",
}
POLICIES = """
SELECT tablename || '.' || policyname, cmd, array_to_string(roles, ', '), permissive, coalesce(qual, ''),
    coalesce(with_check, '') FROM pg_policies
"""


def rows(statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


def without_hash(name: str) -> str:
    """A trigger's name without the prefix and the hash of django-pgtrigger."""
    return re.sub(r"\.pgtrigger_(.*)_[0-9a-f]{5}$", r".\1", name)


def on_columns(granted: list[str] | None, every: list[str]) -> str:
    if granted is None:
        return ""
    left_out = {*every} - {*granted}
    if left_out - FIXED_COLUMNS:
        return f" on {', '.join(granted)}"
    return f" on all but {', '.join(sorted(left_out))}" if left_out else " on every column"


def current_access() -> Iterator[str]:
    for name, rights, callers in rows(FUNCTIONS):
        yield f"function {without_hash(name)} runs {rights}, called by {callers}"
    for target, grantee, privilege, granted, every in rows(GRANTS):
        yield f"grant of {privilege}{on_columns(granted, every)}: {target} to {grantee}"
    for name, command, roles, kind, using, check in rows(POLICIES):
        line = f"policy {name}: {kind} for {command} to {roles} using [{using}] check [{check}]"
        # Versions of PostgreSQL differ in a blank and in the quotes of these names.
        line = re.sub(r"\(SELECT\b", "( SELECT", " ".join(line.split()))
        line = re.sub(r'AS "(nullif|coalesce)"', r"AS \1", line)
        for expression, short_name in SETTING_EXPRESSIONS.items():
            line = line.replace(expression, short_name)
        yield line


def listed_access() -> set[str]:
    files = Path(settings.BASE_DIR).glob("**/tests/database_access.txt")
    return {line for file in files for line in file.read_text(encoding="utf-8").splitlines()}


@pytest.mark.django_db
def test_the_database_grants_exactly_what_the_apps_list() -> None:
    found, listed = {*current_access()}, listed_access()
    assert (sorted(found - listed), sorted(listed - found)) == ([], [])


@pytest.mark.django_db
def test_a_new_function_grant_or_policy_is_not_listed() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            CREATE FUNCTION unreviewed() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
            GRANT UPDATE (codename) ON auth_permission TO {ROLE};
            CREATE POLICY unreviewed ON doctors_doctor FOR DELETE TO PUBLIC USING (true);
            """
        )
    assert {*current_access()} - listed_access() == {
        "function unreviewed() runs with its owner's rights, called by PUBLIC",
        f"grant of UPDATE on codename: auth_permission to {ROLE}",
        "policy doctors_doctor.unreviewed: PERMISSIVE for DELETE to public using [true] check []",
    }


@pytest.mark.django_db
def test_every_function_with_its_owners_rights_has_a_pinned_search_path_that_ends_with_temporary_objects() -> None:
    found = rows("SELECT oid::regprocedure::text, proconfig FROM pg_proc WHERE prosecdef AND pronamespace <> 11")
    assert len(found) > 10
    for name, configuration in found:
        paths = [one for one in configuration or [] if one.startswith("search_path=")]
        assert [path.rpartition(", ")[2] for path in paths] == ["pg_temp"], name
        assert paths[0].startswith("search_path=pg_catalog, "), name


@pytest.mark.django_db
def test_migrating_again_takes_back_what_was_granted_meanwhile() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            GRANT UPDATE ON doctors_doctor TO {ROLE}; GRANT INSERT ON audit_accesslog TO {ROLE};
            GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO PUBLIC;
            GRANT TEMPORARY ON DATABASE {connection.ops.quote_name(connection.settings_dict["NAME"])} TO PUBLIC;
            ALTER TABLE doctors_doctor ADD COLUMN added_later int;
            """
        )
    call_command("migrate", verbosity=0)
    assert {*current_access()} == listed_access()
    assert rows(f"SELECT has_column_privilege('{ROLE}', 'doctors_doctor', 'added_later', 'UPDATE')") == [(True,)]


@pytest.fixture
def attacker(transactional_db: None, alice: User, bob: User) -> Iterator[Any]:
    """A session of the application's login that has become bob, with an open transaction."""
    make_mapping(make_patient(alice), make_doctor(alice))
    make_patient(bob)
    parameters = {**connection.get_connection_params()}
    parameters.pop("cursor_factory", None)
    session = psycopg2.connect(**parameters)
    with session.cursor() as cursor:
        cursor.execute(f"SET ROLE {ROLE}; SELECT set_config('app.user_id', '{bob.pk}', false)")
        session.commit()
        cursor.execute("SET lock_timeout = '2s'")
        yield cursor
    session.close()


LOCKS = ["SHARE UPDATE EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE"]
TABLES = [
    "accounts_loginsession", "accounts_user", "api_idempotencyrecord", "audit_accesslog", "audit_userevent",
    "doctors_doctor", "doctors_doctorevent", "mappings_mapping", "patients_patient", "patients_patientmerge",
]  # fmt: skip


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE doctors_doctor SET created_by_id = {bob}",
        "UPDATE doctors_doctor SET id = id + 1000",
        "UPDATE doctors_doctor SET created_at = '2001-01-01'",
        "UPDATE patients_patient SET created_at = '2001-01-01'",
        "UPDATE patients_patient SET id = id + 1000",
        "UPDATE patients_patient SET created_by_id = {alice}",
        "UPDATE mappings_mapping SET created_by_id = {alice}",
        "UPDATE patients_patientmerge SET created_at = '2001-01-01'",
        "INSERT INTO doctors_doctor (id, name, specialization, license_number, phone, email, hospital, created_at,"
        " updated_at, version, created_by_id) VALUES (99999, 'X', '', '', '', '', '', now(), now(), 1, {bob})",
        "INSERT INTO audit_accesslog (at, actor, action, patient_ids, basis, request_id, outcome)"
        " VALUES ('2001-01-01', {bob}, 'patient.list', '{{}}', 'owner', '', 200)",
        "INSERT INTO audit_accesslog (id, actor, action, patient_ids, basis, request_id, outcome)"
        " VALUES (1, {bob}, 'patient.list', '{{}}', 'owner', '', 200)",
        "INSERT INTO audit_accesslog (actor, action, patient_ids, basis, request_id, outcome)"
        " VALUES ({alice}, 'patient.list', '{{}}', 'owner', '', 200)",
        "DELETE FROM api_idempotencyrecord",
        "CREATE TEMP TABLE patients_patient (id bigint)",
        "CREATE TEMP VIEW patients_patient AS SELECT 1",
        "CREATE TEMP SEQUENCE mine",
        "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TYPE mine AS ENUM ('a')",
        "CREATE SCHEMA mine",
        "CREATE DATABASE mine",
        "CREATE ROLE mine",
        "ALTER ROLE healthcare_api SUPERUSER",
        "GRANT healthcare_api TO pg_monitor",
        "ALTER TABLE doctors_doctor DISABLE TRIGGER ALL",
        "SET session_replication_role = replica",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT lo_import('/etc/passwd')",
        "COPY doctors_doctor TO PROGRAM 'cat'",
        "ALTER SYSTEM SET log_statement = 'all'",
        "SELECT setval(pg_get_serial_sequence('doctors_doctor', 'id'), 1)",
        "SELECT nextval(pg_get_serial_sequence('doctors_doctor', 'id'))",
        "ALTER FUNCTION refuse_to_delete_a_treating_doctor() RESET search_path",
        "SELECT refuse_to_delete_a_treating_doctor()",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = session_user",
    ],
)
def test_the_api_role_may_not(attacker: Any, alice: User, bob: User, statement: str) -> None:
    if statement.startswith(("CREATE DATABASE", "ALTER SYSTEM")):
        attacker.connection.rollback()
        attacker.connection.autocommit = True
    with pytest.raises((InsufficientPrivilege, FeatureNotSupported)):
        attacker.execute(statement.format(alice=alice.pk, bob=bob.pk))


@pytest.mark.parametrize("mode", LOCKS)
def test_the_api_role_takes_no_lock_that_stops_others(attacker: Any, mode: str) -> None:
    for table in TABLES:
        with pytest.raises(InsufficientPrivilege):
            attacker.execute(f"LOCK TABLE {table} IN {mode} MODE")
        attacker.connection.rollback()


def test_the_api_role_still_locks_the_rows_that_it_writes(attacker: Any, bob: User) -> None:
    make_mapping(Patient.objects.get(created_by=bob), Doctor.objects.get())
    for table in ("doctors_doctor", "patients_patient", "mappings_mapping"):
        attacker.execute(f"SELECT id FROM {table} FOR NO KEY UPDATE")  # noqa: S608
        [(key,)] = attacker.fetchall()
        with pytest.raises(OperationalError) as refused, transaction.atomic():
            rows(f"SELECT id FROM {table} WHERE id = {key} FOR NO KEY UPDATE NOWAIT")  # noqa: S608
        assert isinstance(refused.value.__cause__, LockNotAvailable)


def test_an_access_is_recorded_at_the_time_of_the_databases_clock(attacker: Any, bob: User) -> None:
    attacker.execute("SELECT clock_timestamp()")
    (before,) = attacker.fetchone()
    attacker.execute(
        "INSERT INTO audit_accesslog (actor, action, patient_ids, basis, request_id, outcome)"
        " VALUES (%s, 'patient.list', '{}', 'owner', '', 200)",
        [bob.pk],
    )
    attacker.connection.commit()
    assert AccessLog.objects.get(actor=bob.pk).at >= before


def test_a_table_of_the_login_does_not_stand_in_for_the_assignments(attacker: Any) -> None:
    attacker.execute(f"RESET ROLE; CREATE TEMP TABLE mappings_mapping (LIKE public.mappings_mapping); SET ROLE {ROLE}")
    with pytest.raises(RestrictViolation, match="treats patients"):
        attacker.execute("UPDATE doctors_doctor SET deleted_at = now()")


def test_a_doctor_keeps_the_creator_in_every_update_that_is_allowed(attacker: Any, alice: User) -> None:
    attacker.execute("UPDATE doctors_doctor SET name = 'Changed', version = 99, updated_at = '2001-01-01'")
    attacker.connection.commit()
    doctor = Doctor.objects.get()
    assert (doctor.name, doctor.created_by_id, doctor.version) == ("Changed", alice.pk, 2)
    assert doctor.updated_at.year > 2001


@pytest.mark.django_db
def test_every_request_sets_its_timeouts_whatever_the_session_has_set(alice: User) -> None:
    token = issue_token_pair(LoginSession.objects.start(alice, "", None))["access"]
    timeouts = (
        f"SELECT current_setting('statement_timeout')::interval = '{settings.API_STATEMENT_TIMEOUT}'::interval"
        f" AND current_setting('lock_timeout')::interval = '{settings.API_LOCK_TIMEOUT}'::interval"
    )
    for headers in ({}, {"Authorization": f"Bearer {token}"}):
        request = RequestFactory().get("/", headers=headers)
        for writes in (False, True):
            rows("SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false)")
            entry = SessionJWTAuthentication().entry(request, writes=writes)
            assert entry is not None
            assert execute([*entry_statements(entry), Statement(timeouts)]) == [(True,)]
            rows("SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false)")
            with connection.cursor() as cursor:
                cursor.execute("RESET ROLE")
            SessionJWTAuthentication().authenticate(Request(request))
            assert rows(timeouts) == [(True,)]


@pytest.mark.django_db
def test_a_column_that_a_later_migration_adds_can_be_inserted() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE api_idempotencyrecord ADD COLUMN added_later int")
    call_command("migrate", verbosity=0)
    assert rows(f"SELECT has_column_privilege('{ROLE}', 'api_idempotencyrecord', 'added_later', 'INSERT')") == [(True,)]
