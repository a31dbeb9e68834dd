"""`restore` brings back what `backup` wrote, or leaves the database empty and says why in one sentence."""

import dataclasses
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pyrage
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import override_settings

from accounts.invitations.models import Invitation
from accounts.models import LoginSession
from healthcare.embedded.tests.harness import eventually
from healthcare.operations import restore
from healthcare.operations.backup_parts import RestoreOptions
from healthcare.operations.models import Backup
from healthcare.operations.tests.backups import (
    KEY,
    SECRET_NAME,
    Archive,
    answers,
    client_of,
    client_with_token,
    connected_to,
    count,
    empty_database,
    objects_left,
    refusal,
    run,
    source_database,
    start,
    waits_for_a_lock,
)
from healthcare.rls.access import find_access_gaps
from healthcare.tests.live import own_database
from healthcare.tests.superuser import admin_connection

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


TIMEOUTS = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"]


@dataclasses.dataclass
class Source:
    database: str
    backup: Path
    answers: dict[str, list[Any]]
    policies: int


@pytest.fixture(autouse=True)
def seal_key(settings: Any) -> None:
    settings.AUDIT_SEAL_KEY = KEY


@pytest.fixture(scope="module")
def source(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: Any) -> Iterator[Source]:
    with django_db_blocker.unblock(), override_settings(AUDIT_SEAL_KEY=KEY), source_database() as database:
        target = tmp_path_factory.mktemp("backups") / "plain"
        with connected_to(database):
            seen = {username: answers(username) for username in ("alice", "bob")}
            policies = count("SELECT count(*) FROM pg_policies")
            run("backup", target)
        yield Source(database, target, seen, policies)


@pytest.fixture
def empty() -> Iterator[str]:
    with empty_database() as name:
        yield name


def fetch(sql: str, parameters: tuple[Any, ...]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def check_restored(source: Source) -> None:
    assert {username: answers(username) for username in ("alice", "bob")} == source.answers
    assert find_access_gaps(connection) == []
    assert count("SELECT count(*) FROM pg_policies") == source.policies > 15
    assert count("SELECT count(*) FROM pg_trigger WHERE tgenabled = 'D'") == 0
    assert "sealed rows are unaltered" in run("verify_audit")


def test_everything_answers_as_before_and_the_login_sessions_have_ended(source: Source, empty: str) -> None:
    with connected_to(source.database):
        of_before, with_token = client_of("alice"), client_with_token("alice")
        Invitation.objects.create()
        target = source.backup.with_name("with-session")
        run("backup", target)
    said = run("restore", target)
    assert "rows of" in said
    assert "login sessions and 0 sessions of the admin ended." in said
    assert "Delegations work as at the time of the backup: 1. End in the admin what was ended since." in said
    assert "Invitations that could be used at the time of the backup: 1. Delete in the admin those that were" in said
    assert of_before.get("/api/patients/").status_code == with_token.get("/api/patients/").status_code == 401
    assert LoginSession.objects.live().count() == 0
    check_restored(source)
    client = client_of("alice")
    assert client.post("/api/patients/", {"name": "After the restore"}).status_code == 201
    assert client.get("/api/patients/?search=unmistakable").json()[0]["name"] == SECRET_NAME
    of_alice = client_of("bob").get("/api/patients/?search=unmistakable", headers={"X-Acting-For": "alice"})
    assert of_alice.json()[0]["name"] == SECRET_NAME


def test_no_timeout_of_the_login_ends_a_restore(source: Source, empty: str) -> None:
    names = [name for (name,) in fetch("SELECT name FROM pg_settings WHERE name IN %s", (tuple(TIMEOUTS),))]
    for name in names:
        count(f"ALTER DATABASE {empty} SET {name} = '600s'; SELECT 1")
    connection.close()
    seen: dict[str, set[str]] = {}

    def report(text: str) -> None:
        if connection.in_atomic_block:
            seen[text] = {
                value for (value,) in fetch("SELECT setting FROM pg_settings WHERE name IN %s", (tuple(names),))
            }

    restore.restore_backup(source.backup, None, RestoreOptions(keep_sessions=False, report=report))
    assert seen == dict.fromkeys(
        ["Creating tables…", "Loading rows…", "Building indexes…", "Verifying the restored data…"], {"0"}
    )


def test_sessions_go_on_if_told_to(source: Source, empty: str) -> None:
    with connected_to(source.database):
        of_before, with_token = client_of("alice"), client_with_token("alice")
        target = source.backup.with_name("kept-sessions")
        run("backup", target)
    run("restore", target, "--keep-sessions")
    assert of_before.get("/api/patients/").status_code == with_token.get("/api/patients/").status_code == 200


def test_a_restore_is_no_backup(source: Source, empty: str) -> None:
    run("restore", source.backup)
    assert (Backup.objects.count(), Backup.objects.age()) == (0, None)


def test_an_encrypted_backup_needs_its_identity(source: Source, empty: str, tmp_path: Path) -> None:
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "key").write_text(f"# created by a test\n{identity}\n")
    (tmp_path / "other").write_text(str(pyrage.x25519.Identity.generate()))
    (tmp_path / "no-key").write_text("nothing")
    target = tmp_path / "encrypted"
    with connected_to(source.database):
        run("backup", target, "--encrypt-to", identity.to_public())
    assert b"manifest" not in target.read_bytes()
    assert "is encrypted; give the file of its private key with --identity" in refusal("restore", target)
    assert "cannot be decrypted" in refusal("restore", target, "--identity", tmp_path / "other")
    assert "holds no private key" in refusal("restore", target, "--identity", tmp_path / "no-key")
    assert "cannot be read: No such file" in refusal("restore", target, "--identity", tmp_path / "absent")
    whole = target.read_bytes()
    for damaged in (whole[:-20], whole[: len(whole) // 2], whole + b"x", whole[:300]):
        (tmp_path / "damaged").write_bytes(damaged)
        assert "cannot be decrypted" in refusal("restore", tmp_path / "damaged", "--identity", tmp_path / "key")
    assert objects_left() == 0
    run("restore", target, "--identity", tmp_path / "key")
    check_restored(source)


def test_a_damaged_file_is_refused_before_anything_is_written(source: Source, tmp_path: Path) -> None:
    whole, target = source.backup.read_bytes(), tmp_path / "damaged"
    middle = len(whole) // 2
    variants = [
        b"", b"PK\x03\x04 a zip", whole[:700], whole[:middle], whole[:-1024], whole + b"\0" * 10240, whole + b"x",
        whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        whole.replace(b'"format": 1', b'"format": 0'), whole.replace(b'"sha256": "', b'"sha256": "0'),
    ]  # fmt: skip
    for variant in variants:
        target.write_bytes(variant)
        assert refusal("restore", target).startswith("The file is ")
    target.write_bytes(b"PGDMP" + bytes(600))
    assert "is an archive of pg_dump" in refusal("restore", target)
    assert "cannot be read: No such file or directory" in refusal("restore", tmp_path / "absent")
    assert "cannot be read: Is a directory" in refusal("restore", tmp_path)


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "copy the backup into a file" in refusal("restore", tmp_path / "pipe")


def test_the_seal_key_must_be_the_one_of_the_backup(source: Source, tmp_path: Path, settings: Any) -> None:
    original = Archive.read(source.backup)
    forged = Archive(original.manifest, original.dump).write(tmp_path / "forged", key="another key" * 4)
    without_code = Archive(original.manifest, original.dump).write(tmp_path / "without-code", key="")
    assert "or the file was altered" in refusal("restore", forged)
    settings.AUDIT_SEAL_KEY = "another key of at least 32 characters"
    assert "AUDIT_SEAL_KEY is not the key of the installation" in refusal("restore", source.backup)
    settings.AUDIT_SEAL_KEY = ""
    assert "AUDIT_SEAL_KEY is not set" in refusal("restore", source.backup)
    assert "has seals and AUDIT_SEAL_KEY is not set" in refusal("restore", without_code)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": 2}, "has format 2, which a newer release of this project wrote"),
        ({"version": "9.0.0", "migrations": [["patients", "9999_later"]]}, "is of release 9.0.0, whose migration"),
        ({"postgresql": 19}, "The backup is of PostgreSQL 19 and the server is PostgreSQL"),
    ],
)
def test_a_backup_of_something_newer_is_refused(
    source: Source, empty: str, tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    original = Archive.read(source.backup)
    newer = Archive({**original.manifest, **change}, original.dump).write(tmp_path / "newer")
    assert sentence in refusal("restore", newer)
    assert objects_left() == 0


def test_rows_that_differ_from_the_count_leave_the_database_empty(source: Source, empty: str, tmp_path: Path) -> None:
    original = Archive.read(source.backup)
    tables = {**original.manifest["tables"], "public.patients_patient": 3}
    changed = Archive({**original.manifest, "tables": tables}, original.dump).write(tmp_path / "changed")
    assert refusal("restore", changed) == "public.patients_patient has 2 rows, and the backup 3."
    assert objects_left() == 0
    run("restore", source.backup)


def test_a_row_altered_after_its_seal_leaves_the_database_empty(source: Source, empty: str, tmp_path: Path) -> None:
    with own_database(template=source.database) as altered, connected_to(altered):
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE patients_patientevent DISABLE TRIGGER ALL")
            cursor.execute("UPDATE patients_patientevent SET name = 'Somebody else'")
        run("backup", tmp_path / "altered")
    said = refusal("restore", tmp_path / "altered")
    assert said.startswith("The seals do not hold")
    assert "patients_patientevent" in said
    assert "Somebody" not in said
    assert objects_left() == 0


def test_a_migration_that_fails_afterwards_leaves_the_database_empty(
    source: Source, empty: str, monkeypatch: Any
) -> None:
    def fail(name: str, **_: Any) -> None:
        assert name == "migrate"
        raise CommandError("The migration failed.")

    monkeypatch.setattr(restore, "call_command", fail)
    assert refusal("restore", source.backup) == "The migration failed."
    assert objects_left() == 0
    monkeypatch.undo()
    run("restore", source.backup)


@pytest.mark.parametrize(
    ("leftover", "kind"),
    [
        ("CREATE TABLE notes (id int)", "table notes"),
        ("CREATE VIEW numbers AS SELECT 1", "view numbers"),
        ("CREATE SCHEMA mine CREATE TABLE mine.notes (id int)", "table mine.notes"),
        ("CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'", "routine one()"),
        ("CREATE TYPE mood AS ENUM ('sad')", "type mood"),
    ],
)
def test_a_database_that_is_not_empty_is_refused(source: Source, empty: str, leftover: str, kind: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(leftover)
    assert f"The database is not empty: it has the {kind}" in refusal("restore", source.backup)


def test_empty_schemas_and_extensions_may_be_there(source: Source, empty: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE SCHEMA extensions; CREATE EXTENSION pg_trgm SCHEMA extensions; CREATE EXTENSION unaccent"
        )
    run("restore", source.backup)
    check_restored(source)
    assert client_of("alice").get("/api/patients/?search=unmistakabel").json()[0]["name"] == SECRET_NAME


def test_a_user_who_may_not_create_extensions_restores_without_similarity(source: Source) -> None:
    login = str(connection.get_connection_params()["user"])
    with own_database("postgres") as database, connected_to(database):
        with closing(admin_connection_to(database)) as admin:
            admin.cursor().execute(f"GRANT CREATE ON SCHEMA public TO {login}")
        run("restore", source.backup)
        assert count("SELECT count(*) FROM pg_extension WHERE extname = 'pg_trgm'") == 0
        assert {username: answers(username) for username in ("alice", "bob")} == source.answers
        assert client_of("alice").get("/api/patients/?search=unmistak").json()[0]["name"] == SECRET_NAME


def test_search_works_on_a_server_without_the_collation_of_the_other_one(
    source: Source, empty: str, tmp_path: Path
) -> None:
    with own_database(template=source.database) as elsewhere, connected_to(elsewhere):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_get_functiondef('search_fold'::regproc)")
            (definition,) = cursor.fetchone()
            assert "pg_c_utf8" in definition
            cursor.execute("SET check_function_bodies = off")
            cursor.execute(definition.replace("pg_c_utf8", "of-another-server"))
        run("backup", tmp_path / "elsewhere")
    run("restore", tmp_path / "elsewhere")
    check_restored(source)
    assert client_of("alice").get("/api/patients/?search=unmistakable").json()[0]["name"] == SECRET_NAME


def admin_connection_to(database: str) -> Any:
    admin = admin_connection()
    parameters = admin.get_dsn_parameters()
    admin.close()
    opened = psycopg2.connect(**{**parameters, "dbname": database})
    opened.autocommit = True
    return opened


def test_a_database_that_does_not_exist_is_named(source: Source) -> None:
    with connected_to("no_such_database"):
        assert 'database "no_such_database" does not exist' in refusal("restore", source.backup)


def test_a_backup_of_an_older_release_is_migrated_forward(source: Source, empty: str, tmp_path: Path) -> None:
    with own_database(template=source.database) as older, connected_to(older):
        with connection.cursor() as cursor:  # seals of this release name columns that an older one does not have
            cursor.execute("ALTER TABLE audit_seal DISABLE TRIGGER USER; DELETE FROM audit_seal")
            cursor.execute("ALTER TABLE audit_seal ENABLE TRIGGER USER")
        call_command("migrate", "operations", "zero", verbosity=0)
        call_command("migrate", "doctors", "0003", verbosity=0)
        assert count("SELECT count(*) FROM django_migrations WHERE app = 'doctors'") == 3
        run("backup", tmp_path / "older")
    assert "The backup has no seals." in run("restore", tmp_path / "older")
    assert find_access_gaps(connection) == []
    assert {username: answers(username) for username in ("alice", "bob")} == source.answers


def test_a_trigger_that_was_switched_off_is_switched_on(source: Source, empty: str, tmp_path: Path) -> None:
    with own_database(template=source.database) as database, connected_to(database):
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE patients_patientevent DISABLE TRIGGER USER")
        run("backup", tmp_path / "switched-off")
    run("restore", tmp_path / "switched-off")
    check_restored(source)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_ends_before_its_commit_leaves_the_database_empty(
    source: Source, empty: str, number: signal.Signals
) -> None:
    with closing(psycopg2.connect(**connection_parameters())) as blocker, blocker.cursor() as cursor:
        # The index of this name is built after the rows are loaded, and waits for this transaction.
        cursor.execute("CREATE TABLE patients_patient_pkey ()")
        process = start("restore", empty, source.backup)
        eventually(lambda: waits_for_a_lock("transactionid"))
        os.kill(process.pid, number)
        _, errors = process.communicate(timeout=60)
        assert b"Building indexes" in errors
        assert process.returncode == (-9 if number == signal.SIGKILL else 128 + 15)
        blocker.rollback()
    eventually(lambda: count("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()") == 1)
    assert objects_left() == 0
    run("restore", source.backup)
    check_restored(source)


def connection_parameters() -> dict[str, Any]:
    parameters = connection.get_connection_params()
    return {name: parameters[name] for name in ("host", "port", "user", "password", "dbname") if parameters.get(name)}
