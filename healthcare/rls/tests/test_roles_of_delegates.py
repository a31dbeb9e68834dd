"""What the policies let a delegate do, in SQL, as the API's role."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from psycopg2.errors import InsufficientPrivilege

from accounts.delegations.models import Delegation
from accounts.models import User
from audit.models import AccessLog, Basis
from doctors.tests.factories import make_doctor
from healthcare.imports.models import Import
from healthcare.ownership import RecordOwner
from healthcare.rls.context import enter
from mappings.tests.factories import make_mapping
from patients.merges import merge
from patients.models import Patient
from patients.tests.factories import make_patient

INSERT_PATIENT = """
INSERT INTO patients_patient (name, gender, identifier, identifiers, phone, alternate_phone, email, address, language,
    contacts, medical_history, deceased, version, created_at, updated_at, created_by_id)
SELECT 'New', 'U', '', '[]', '', '', '', '', '', '[]', '', false, 1, now(), now(), {owner}"""
INSERT_MAPPING = """
INSERT INTO mappings_mapping (patient_id, doctor_id, role, is_primary, reason, notes, started_at, version, created_at,
    updated_at, created_by_id)
SELECT {patient}, {doctor}, '', false, '', '', now(), 1, now(), now(), {owner}"""
INSERT_MERGE = """
INSERT INTO patients_patientmerge (survivor_id, duplicate_id, filled, moved, version, created_at, updated_at,
    created_by_id)
SELECT {patient}, {other}, '{{}}', '{{}}', 1, now(), now(), {owner}"""
INSERT_IMPORT = """
INSERT INTO imports_import (created_by_id, caller, kind, created_at, parameters, summary)
SELECT {owner}, nullif(current_setting('app.user_id', true), '')::bigint, 'patients', now(), '{{}}', '{{}}'"""
INSERT_LINE = """
INSERT INTO imports_importedline (parent_id, created_by_id, line, status, server, errors, likely)
SELECT {import}, {owner}, 3, 'failed', '', '[]', '[]'"""
READ = [
    "SELECT id FROM patients_patient", "SELECT id FROM patients_patientevent", "SELECT id FROM mappings_mapping",
    "SELECT id FROM mappings_mappingevent", "SELECT id FROM patients_patientmerge",
    "SELECT term FROM patients_patientterm", "SELECT word FROM patients_patientword",
    "SELECT id FROM audit_patientaccess", "SELECT place FROM patients_patientword_near('john')",
    "SELECT id FROM imports_import", "SELECT id FROM imports_importedline",
]  # fmt: skip
WRITE = [
    INSERT_PATIENT,
    INSERT_MAPPING,
    "UPDATE patients_patient SET name = 'Changed' WHERE id = {patient}",
    "UPDATE mappings_mapping SET role = 'GP'",
    "UPDATE mappings_mapping SET ended_at = clock_timestamp() WHERE ended_at IS NULL",
]
MANAGE = [
    "UPDATE patients_patient SET deleted_at = now() WHERE id = {other}",
    "UPDATE patients_patient SET deleted_at = NULL WHERE id = {deleted}",
    "UPDATE patients_patient SET name = 'Changed' WHERE id = {deleted}",
    "UPDATE patients_patient SET deleted_at = now(), merged_into_id = {patient} WHERE id = {other}",
    "UPDATE patients_patient SET deleted_at = NULL, merged_into_id = NULL WHERE id = {merged}",
    "UPDATE patients_patientmerge SET unmerged_at = now()",
    INSERT_MERGE,
    INSERT_IMPORT,
    INSERT_LINE,
    "UPDATE imports_import SET undone_at = now()",
]


@pytest.fixture
def asha(make_user: Callable[..., User]) -> User:
    return make_user("asha")


@pytest.fixture
def ids(alice: User) -> dict[str, int]:
    """Alice's records, one in each state."""
    patient, other, deleted, merged = (make_patient(alice) for _ in range(4))
    doctor = make_doctor(alice)
    make_mapping(other, make_doctor(alice))
    Patient.objects.filter(pk=deleted.pk).end()
    merge(patient, merged)
    AccessLog.objects.record(
        alice.pk, "patient.retrieve", [patient.pk], basis=Basis.OWNER, request_id="", outcome=200, pure_read=False
    )
    parent = Import.objects.create(created_by=alice, caller=alice.pk, kind="patients")
    parent.lines.create(created_by=alice, line=2, status="failed")
    found = {
        "import": parent,
        "patient": patient,
        "other": other,
        "deleted": deleted,
        "merged": merged,
        "doctor": doctor,
    }
    return {"owner": alice.pk} | {name: record.pk for name, record in found.items()}


@contextmanager
def entered(caller: Any, owner: Any = "", role: str = "") -> Iterator[Any]:
    """A cursor of the API's role with these settings; what happens is rolled back."""
    with transaction.atomic(), connection.cursor() as cursor:
        enter(None)
        for setting, value in (("user_id", caller), ("owner_id", owner), ("owner_role", role)):
            cursor.execute(f"SELECT set_config('app.{setting}', %s, true)", [str(value)])
        yield cursor
        transaction.set_rollback(True)


def changes(cursor: Any, statement: str, ids: dict[str, int]) -> bool:
    """Whether the statement changes a row; refused by a policy it fails or finds none."""
    try:
        with transaction.atomic():
            cursor.execute(statement.format(**ids))
            return bool(cursor.rowcount)
    except DatabaseError as error:
        if not isinstance(error.__cause__, InsufficientPrivilege):
            raise
        return False


def reads(cursor: Any, statement: str) -> bool:
    cursor.execute(statement)
    return bool(cursor.fetchall())


@pytest.mark.parametrize(
    ("role", "allowed"), [("read", []), ("write", WRITE), ("manage", WRITE + MANAGE), ("", []), ("owner", [])]
)
def test_the_role_decides_what_a_delegate_changes(
    asha: User, alice: User, ids: dict[str, int], role: str, allowed: list[str]
) -> None:
    for statement in WRITE + MANAGE:
        with entered(asha.pk, alice.pk, role) as cursor:
            assert changes(cursor, statement, ids) == (statement in allowed), statement


def test_the_owner_may_do_all_of_it_with_the_settings_of_the_last_release_too(alice: User, ids: dict[str, int]) -> None:
    for owner in ("", alice.pk):
        for statement in WRITE + MANAGE:
            with entered(alice.pk, owner) as cursor:
                assert changes(cursor, statement, ids), statement


def test_a_delegate_reads_everything_of_the_owner_and_the_owner_alone(
    asha: User, alice: User, bob: User, ids: dict[str, int]
) -> None:
    for role in ("read", "write", "manage"):
        with entered(asha.pk, alice.pk, role) as cursor:
            assert [statement for statement in READ if not reads(cursor, statement)] == []
        with entered(asha.pk, bob.pk, role) as cursor:
            assert [statement for statement in READ if reads(cursor, statement)] == []


@pytest.mark.parametrize(
    ("caller", "owner"), [("asha", 0), ("", 0), ("", ""), ("asha", ""), ("asha", "asha")], ids=lambda value: repr(value)
)
def test_nobody_sees_or_changes_anything_without_a_working_delegation(
    asha: User, ids: dict[str, int], caller: Any, owner: Any
) -> None:
    names = {"asha": asha.pk}
    for role in ("", "manage"):
        with entered(names.get(caller, caller), names.get(owner, owner), role) as cursor:
            assert [statement for statement in READ if reads(cursor, statement)] == []
            assert [statement for statement in WRITE + MANAGE if changes(cursor, statement, ids)] == []


@pytest.mark.parametrize(
    ("caller", "role"),
    [("", ""), ("", "manage"), ("asha", ""), ("asha", "owner"), ("asha", "READ")],
    ids=lambda value: repr(value),
)
def test_an_owner_without_a_caller_or_without_a_role_shows_nothing(
    asha: User, alice: User, ids: dict[str, int], caller: str, role: str
) -> None:
    with entered(asha.pk if caller else "", alice.pk, role) as cursor:
        assert [statement for statement in READ if reads(cursor, statement)] == []
        assert [statement for statement in WRITE + MANAGE if changes(cursor, statement, ids)] == []


def test_a_delegate_neither_adds_records_of_their_own_nor_moves_one(
    asha: User, alice: User, ids: dict[str, int]
) -> None:
    with entered(asha.pk, alice.pk, "manage") as cursor:
        for statement in (INSERT_PATIENT, INSERT_MAPPING, "UPDATE patients_patient SET created_by_id = {owner}"):
            assert not changes(cursor, statement, ids | {"owner": asha.pk}), statement


def test_accounts_stay_those_of_the_caller(asha: User, alice: User) -> None:
    Delegation.objects.create(owner=alice, delegate=asha, role="manage")
    with entered(asha.pk, alice.pk, "manage") as cursor:
        for table in ("accounts_user", "audit_userevent"):
            cursor.execute(f"SELECT DISTINCT id FROM {table}")  # noqa: S608
            assert cursor.fetchall() == [(asha.pk,)], table
        for statement in (
            "UPDATE accounts_delegation SET role = 'read'",
            "INSERT INTO accounts_delegation (owner_id, delegate_id, role, note, created_at)"
            " VALUES ({asha}, {alice}, 'read', '', now())",
            "DELETE FROM accounts_delegation",
            "INSERT INTO accounts_notice (user_id, at, kind, about) VALUES (1, now(), 'x', '{{}}')",
        ):
            assert not changes(cursor, statement, {"asha": asha.pk, "alice": alice.pk}), statement


@pytest.mark.parametrize(("acting", "basis"), [(True, "delegate"), (False, "owner")])
def test_an_access_is_recorded_with_its_true_basis_and_actor(asha: User, alice: User, acting: bool, basis: str) -> None:
    insert = (
        "INSERT INTO audit_accesslog (actor, action, patient_ids, basis, request_id, outcome)"
        " VALUES ({actor}, 'patient.list', '{{}}', '{basis}', '', 200)"
    )
    with transaction.atomic(), connection.cursor() as cursor:
        enter(asha.pk, owner=RecordOwner(alice.pk, "alice", "read") if acting else None)
        recorded = {
            (actor, tried)
            for actor in (asha.pk, alice.pk)
            for tried in ("owner", "delegate", "staff")
            if changes(cursor, insert, {"actor": actor, "basis": tried})  # type: ignore[dict-item]
        }
        transaction.set_rollback(True)
    assert recorded == {(asha.pk, basis)}
