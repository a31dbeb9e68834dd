"""`migrate` puts back the access that the migrations declare, and `find_access_gaps` names what is missing."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from django.core.management import CommandError, call_command
from django.db import DEFAULT_DB_ALIAS, connection, connections, migrations, models, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.test.utils import CaptureQueriesContext

from healthcare.rls import ROLE
from healthcare.rls.access import AccessGap, find_access_gaps, loader_of_disk, restore_access
from healthcare.rls.declaration import Declaration, DeclarationError, DeclarationReader, declared_access
from healthcare.rls.operations import RowSecurity
from healthcare.tests.crash import eventually
from healthcare.tests.live import own_database, url_of

DAMAGES = {
    "DROP POLICY own ON patients_patient": AccessGap("policies", "patients_patient.own"),
    "ALTER POLICY own ON patients_patient USING (true)": AccessGap("policies", "patients_patient.own"),
    "ALTER POLICY own ON mappings_mapping WITH CHECK (created_by_id = 1 OR true)": AccessGap(
        "policies", "mappings_mapping.own"
    ),
    "ALTER POLICY own ON patients_patientevent TO pg_monitor": AccessGap("policies", "patients_patientevent.own"),
    "ALTER POLICY read ON doctors_doctorevent USING (true)": AccessGap("policies", "doctors_doctorevent.read"),
    "CREATE POLICY everything ON patients_patient USING (true)": AccessGap("policies", "patients_patient.everything"),
    "ALTER TABLE patients_patient DISABLE ROW LEVEL SECURITY": AccessGap(
        "policies", "row-level security of patients_patient"
    ),
    "ALTER TABLE accounts_loginaddress DISABLE ROW LEVEL SECURITY": AccessGap(
        "policies", "row-level security of accounts_loginaddress"
    ),
    "ALTER TABLE doctors_doctor FORCE ROW LEVEL SECURITY": AccessGap(
        "policies", "row-level security of doctors_doctor"
    ),
    "REVOKE SELECT ON patients_patient FROM healthcare_api": AccessGap("grants", "SELECT on patients_patient"),
    f"REVOKE INSERT ON audit_accesslog FROM {ROLE}": AccessGap("grants", "INSERT on audit_accesslog"),
    "REVOKE SELECT ON audit_patientaccess FROM healthcare_api": AccessGap("grants", "SELECT on audit_patientaccess"),
    f"GRANT DELETE ON patients_patient TO {ROLE}": AccessGap("grants", "DELETE on patients_patient"),
    f"GRANT UPDATE (created_by_id) ON patients_patient TO {ROLE}": AccessGap("grants", "UPDATE on patients_patient"),
    "GRANT SELECT ON auth_permission TO PUBLIC": AccessGap("grants", "SELECT on auth_permission"),
    f"REVOKE EXECUTE ON FUNCTION is_own_patient FROM {ROLE}": AccessGap("grants", "EXECUTE on is_own_patient(bigint)"),
    "GRANT EXECUTE ON FUNCTION refuse_to_delete_a_treating_doctor TO PUBLIC": AccessGap(
        "grants", "EXECUTE on refuse_to_delete_a_treating_doctor()"
    ),
}


def execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_gap_is_named_and_migrating_again_closes_it(damage: str, capsys: Any) -> None:
    assert find_access_gaps(connection) == []
    execute(damage)
    assert find_access_gaps(connection) == [DAMAGES[damage]]
    call_command("migrate", verbosity=0)
    assert find_access_gaps(connection) == []
    assert (DAMAGES[damage].name in capsys.readouterr().err) == (DAMAGES[damage].check == "policies")


@pytest.mark.django_db
def test_every_policy_and_privilege_is_put_back_where_all_are_missing() -> None:
    execute(
        """
        DO $$
        DECLARE one record;
        BEGIN
            FOR one IN SELECT polname, polrelid::regclass AS name FROM pg_policy LOOP
                EXECUTE format('DROP POLICY %I ON %s', one.polname, one.name);
                EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', one.name);
            END LOOP;
        END $$;
        REVOKE ALL ON ALL TABLES IN SCHEMA public FROM healthcare_api;
        REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM healthcare_api;
        """
    )
    assert len(find_access_gaps(connection)) > 40
    call_command("migrate", verbosity=0)
    assert find_access_gaps(connection) == []


@pytest.mark.django_db
def test_policies_and_privileges_of_an_operators_own_role_stay() -> None:
    execute(
        "CREATE POLICY report ON patients_patient FOR SELECT TO pg_monitor USING (true)",
        "GRANT SELECT ON patients_patient TO pg_monitor",
    )
    assert find_access_gaps(connection) == []
    assert restore_access(connection) == []


@pytest.mark.django_db
def test_nothing_is_locked_where_nothing_is_missing() -> None:
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relation::regclass::text FROM pg_locks JOIN pg_class ON pg_class.oid = relation "
            "WHERE pid = pg_backend_pid() AND relnamespace = 'public'::regnamespace "
            "AND mode NOT IN ('AccessShareLock', 'RowExclusiveLock', 'RowShareLock')"
        )
        assert cursor.fetchall() == []


@pytest.mark.django_db(transaction=True)
def test_a_read_only_database_is_compared_by_names() -> None:
    with transaction.atomic():
        execute("DROP POLICY own ON patients_patient")
        execute("SAVEPOINT before", "SET TRANSACTION READ ONLY")
        assert find_access_gaps(connection) == [AccessGap("policies", "patients_patient.own")]
        transaction.set_rollback(True)


@pytest.mark.django_db
def test_a_database_that_a_newer_release_has_migrated_is_left_as_it_is() -> None:
    MigrationRecorder(connection).record_applied("patients", "9999_of_a_newer_release")
    execute("DROP POLICY own ON patients_patient", "CREATE POLICY mine ON patients_patient USING (created_by_id = 1)")
    assert (find_access_gaps(connection), restore_access(connection)) == ([], [])
    execute("ALTER TABLE patients_patient DISABLE ROW LEVEL SECURITY")
    assert find_access_gaps(connection) == [AccessGap("policies", "row-level security of patients_patient")]


@pytest.mark.django_db
def test_a_column_that_a_policy_needs_and_that_was_renamed_says_what_to_do() -> None:
    execute("ALTER TABLE mappings_mapping RENAME COLUMN created_by_id TO owner_id")
    with pytest.raises(CommandError, match="for mappings_mapping does not fit .* declare them again"):
        restore_access(connection)


@pytest.mark.django_db(transaction=True)
def test_an_empty_database_has_no_gaps_before_it_is_migrated() -> None:
    with own_database() as name:
        connection.close()
        original, connection.settings_dict["NAME"] = connection.settings_dict["NAME"], name
        try:
            assert find_access_gaps(connection) == []
        finally:
            connection.close()
            connection.settings_dict["NAME"] = original


@pytest.mark.django_db(transaction=True)
def test_a_connection_of_its_own_is_compared_and_left_as_it_was() -> None:
    own: Any = connections.create_connection(DEFAULT_DB_ALIAS)
    try:
        with CaptureQueriesContext(connection) as of_the_default_connection:
            assert find_access_gaps(own) == []
        assert (len(of_the_default_connection), own.get_autocommit(), own.in_atomic_block) == (0, True, False)
        with own.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()")
            assert cursor.fetchone() == (0,)
    finally:
        own.close()


@pytest.mark.django_db(transaction=True)
def test_readers_go_on_while_a_policy_waits_for_a_long_transaction() -> None:
    def put_back() -> list[AccessGap]:
        try:
            return restore_access(connections[DEFAULT_DB_ALIAS])
        finally:
            connections.close_all()

    execute("DROP POLICY own ON patients_patient")
    long, reader = (psycopg2.connect(url_of(connection.settings_dict["NAME"])) for _ in range(2))
    with closing(long), closing(reader), ThreadPoolExecutor(1) as threads:
        long.cursor().execute("SELECT FROM patients_patient")
        restored = threads.submit(put_back)
        waiting = (
            "SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) "
            "WHERE datname = current_database() AND mode = 'AccessExclusiveLock' AND NOT granted"
        )
        eventually(lambda: rows(waiting))
        reader.autocommit = True
        for _ in range(3):  # without a limit to the waiting these would wait as long as the transaction lasts
            reader.cursor().execute("SET lock_timeout = '60s'; SELECT FROM patients_patient")
        assert not restored.done()
        long.rollback()
        assert restored.result() == [AccessGap("policies", "patients_patient.own")]
    assert find_access_gaps(connection) == []


def rows(sql: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def declared_by(*operations: Any) -> Declaration:
    reader = DeclarationReader()
    reader.read_operations(("app", "0001"), operations)
    return {relation: access for relation, access in reader.declared.items() if access.statements(relation)}


def thing(name: str = "Thing", **options: str) -> migrations.CreateModel:
    return migrations.CreateModel(name, [("id", models.BigAutoField(primary_key=True))], options=options)


PROTECTED = RowSecurity(
    "Thing",
    """
    -- Only the owner; no "other"
    ALTER TABLE app_thing ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE POLICY own ON app_thing USING (note <> 'a; -- b') /* a; comment */ ;
    GRANT SELECT ON app_thing, "app_Other" TO healthcare_api
    """,
)
STATEMENTS = [
    'ALTER TABLE "{}" ENABLE ROW LEVEL SECURITY',
    'ALTER TABLE "{}" FORCE ROW LEVEL SECURITY',
    "CREATE POLICY own ON \"{}\" USING (note <> 'a; -- b')",
    'GRANT SELECT ON "{}" TO healthcare_api',
]


def test_quotes_comments_and_several_relations_are_read() -> None:
    declared = declared_by(thing(), migrations.SeparateDatabaseAndState([PROTECTED]))
    assert declared["app_thing"].statements("app_thing") == [line.format("app_thing") for line in STATEMENTS]
    assert declared["app_Other"].statements("app_Other") == ['GRANT SELECT ON "app_Other" TO healthcare_api']


@pytest.mark.parametrize(
    ("change", "name"),
    [(migrations.RenameModel("Thing", "Item"), "app_item"), (migrations.AlterModelTable("thing", "things"), "things")],
)
def test_a_renamed_table_keeps_its_access(change: Any, name: str) -> None:
    assert declared_by(thing(), PROTECTED, change)[name].statements(name) == [line.format(name) for line in STATEMENTS]


@pytest.mark.parametrize("removal", [migrations.DeleteModel("Thing"), migrations.RunSQL("DROP TABLE app_thing")])
def test_a_dropped_table_has_no_access(removal: Any) -> None:
    assert [*declared_by(thing(), PROTECTED, removal)] == ["app_Other"]


def test_superseded_statements_are_left_out() -> None:
    again = migrations.RunSQL(
        ["DROP POLICY IF EXISTS own ON app_thing", ("CREATE POLICY own ON app_thing USING (true)", None),
         "REVOKE ALL ON app_thing FROM healthcare_api"]
    )  # fmt: skip
    statements = declared_by(thing(), PROTECTED, again)["app_thing"].statements("app_thing")
    assert statements[2:] == [
        'CREATE POLICY own ON "app_thing" USING (true)',
        'REVOKE ALL ON "app_thing" FROM healthcare_api',
    ]


def test_a_grant_that_names_no_relation_is_refused() -> None:
    with pytest.raises(DeclarationError, match="The migration app.0001 has a GRANT"):
        declared_by(migrations.RunSQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO healthcare_api"))


def test_the_declaration_follows_what_is_applied() -> None:
    loader: MigrationLoader = loader_of_disk()
    applied = {key for key in loader.disk_migrations if key[0] != "doctors" or key[1] < "0004"}
    with_all = declared_access(loader, set(loader.disk_migrations))["doctors_doctorevent"]
    before = declared_access(loader, applied)["doctors_doctorevent"]
    assert (len(before.policies["read"]), len(with_all.policies["read"])) == (1, 2)
