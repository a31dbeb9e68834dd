"""The file of a person, compared with the schema of the database: every table is in it or has a reason."""

import io
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connection

from accounts.models import User
from audit.models import AccessLog, Basis
from doctors.tests.factories import make_doctor
from healthcare.imports.models import Import, ImportedLine
from mappings.models import Mapping, MappingEvent
from mappings.tests.factories import make_mapping
from patients.legal_hold import set_hold
from patients.merges import merge
from patients.models import Patient, PatientEvent, PatientTransfer
from patients.person_file.parts import REGISTER
from patients.person_file.tests.reading import parsed
from patients.person_file.writer import write_person_file
from patients.tests.factories import make_patient

pytestmark = pytest.mark.django_db

TABLES = """
SELECT relname FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
"""
# The columns that may say which patient a row is about: foreign keys to a table of the file, columns named for one, and
# arrays and JSON, which may hold ids.
COLUMNS = """
SELECT c.relname || '.' || a.attname
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0
    AND NOT a.attisdropped AND c.relname <> ALL (%(tables)s)
    AND (a.attname ~ 'patient|record|row|object'
        OR a.atttypid = ANY ('{bigint[],integer[],jsonb,json}'::regtype[])
        OR EXISTS (
            SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f' AND a.attnum = ANY (k.conkey)
            AND k.confrelid = ANY (%(tables)s::text[]::regclass[])))
"""
SEALS = "audit_seal"  # of which the file has those that cover its rows

OF_USERS = "is about users"
DERIVED = "is made of the record, for searches"
EXCLUDED_TABLES = {
    **dict.fromkeys(
        [
            "accounts_attempts", "accounts_delegation", "accounts_delegationevent", "accounts_invitation",
            "accounts_loginaddress", "accounts_loginsession", "accounts_notice", "accounts_recoverycode",
            "accounts_secondfactor", "accounts_user", "accounts_user_groups", "accounts_user_user_permissions",
            "audit_userevent", "auth_group", "auth_group_permissions", "auth_permission", "django_session",
            "staff_roles_staffrole",
        ],
        OF_USERS,
    ),
    **dict.fromkeys(
        ["patients_patientterm", "patients_patientword", "patients_patientknownword"], DERIVED
    ),
    **dict.fromkeys(
        [
            "django_content_type", "django_migrations", "exports_serverid", "fastpath_tableversion",
            "operations_backup", "replicas_ownerwrite", "replicas_source",
        ],
        "is about the program and its tables",
    ),
    **dict.fromkeys(
        ["doctors_doctorevent", "doctors_doctorterm", "doctors_doctorword"],
        "is about doctors, of whom the file has what the directory says of the person's doctors now",
    ),
    "api_idempotencyrecord": "holds copies of answers for 24 hours, and names no patient",
    "audit_archive": "names files with older rows; the file says from when on it has the rows of this database",
    "audit_forgotten": "names rows that an erasure has removed",
    "audit_legalholdevent": "repeats what a legal hold says, which is in the file",
    "audit_patientaccess": "is a view of the access log, which is in the file",
    "audit_verificationmark": "says up to where the seals are verified",
    "fhir_bulkexport": "is a request for files, and names no patient; the access log has what was read",
    **dict.fromkeys(
        ["imports_stagedfile", "imports_stagedrow"],
        "is what an unfinished import has read of a file, of which there are no records yet",
    ),
    "patients_erasurereceipt": "is written when a patient is erased, of whom there is no file any more",
    "pghistory_context": "is of a library, which stores nothing there",
}  # fmt: skip
EXCLUDED_COLUMNS = {
    "accounts_delegationevent.pgh_context": OF_USERS,
    "accounts_notice.about": "names a delegation or a transfer; transfers are in the file",
    "api_idempotencyrecord.headers": "has headers of an answer, such as its ETag and the path of a new record",
    "audit_archive.row_count": "is a number of rows",
    "audit_forgotten.row": "is the id of a row that an erasure has removed",
    "audit_legalholdevent.patient_id": "repeats the legal hold",
    "audit_legalholdevent.record_ids": "repeats the legal hold",
    "audit_legalholdevent.pgh_context": OF_USERS,
    "audit_patientaccess.patient_id": "is a view of the access log",
    "audit_userevent.pgh_context": OF_USERS,
    "audit_verificationmark.positions": "names tables",
    "doctors_doctorevent.pgh_context": OF_USERS,
    "doctors_doctorterm.record": "is a doctor",
    "fhir_bulkexport.parameters": "has the parameters of a request, such as its types",
    "imports_stagedfile.parent_id": "is an unfinished import, whose lines are in the file",
    **dict.fromkeys(["imports_stagedfile.rows", "imports_stagedfile.written_rows"], "is a number of rows"),
    "patients_erasurereceipt.counts": "counts rows by table",
    "patients_erasurereceipt.record_id": "is a patient who has been erased; ids are never given again",
    "patients_patientterm.record": DERIVED,
    "pghistory_context.metadata": "is of a library, which stores nothing there",
}  # fmt: skip


def in_file() -> list[str]:
    return [SEALS, *(table for part in REGISTER.parts.values() for table in part.tables)]


def read(statement: str) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(statement, {"tables": in_file()})
        return {name for (name,) in cursor.fetchall()}


def unexplained_tables() -> set[str]:
    return read(TABLES) - {*in_file()} - EXCLUDED_TABLES.keys()


def unexplained_columns() -> set[str]:
    return read(COLUMNS) - EXCLUDED_COLUMNS.keys()


def test_every_table_is_in_the_file_or_excluded_for_a_reason() -> None:
    """A new one fails here: let a part of `person_file` write what it holds about a patient, or say why not."""
    assert unexplained_tables() == set()
    assert (EXCLUDED_TABLES.keys() | {*in_file()}) - read(TABLES) == set()
    assert not EXCLUDED_TABLES.keys() & {*in_file()}


def test_every_column_that_may_name_a_patient_is_in_the_file_or_excluded_for_a_reason() -> None:
    assert unexplained_columns() == set()
    assert EXCLUDED_COLUMNS.keys() - read(COLUMNS) == set()


@pytest.mark.parametrize(
    ("statement", "tables", "columns"),
    [
        ("CREATE TABLE visit (id bigint, whom bigint REFERENCES patients_patient)", {"visit"}, {"visit.whom"}),
        ("CREATE TABLE dose (id bigint, given_by bigint REFERENCES mappings_mapping)", {"dose"}, {"dose.given_by"}),
        ("CREATE TABLE bed (id bigint, patient_id bigint)", {"bed"}, {"bed.patient_id"}),
        ("CREATE TABLE ward (id bigint, people bigint[])", {"ward"}, {"ward.people"}),
        ("CREATE TABLE form (id bigint, answers jsonb)", {"form"}, {"form.answers"}),
        ("CREATE VIEW names AS SELECT name FROM patients_patient", {"names"}, set()),
        ("ALTER TABLE accounts_notice ADD patient_id bigint", set(), {"accounts_notice.patient_id"}),
    ],
    ids=["a foreign key", "a foreign key to an assignment", "a name", "an array", "JSON", "a view", "a new column"],
)
def test_what_is_new_in_the_database_is_found(statement: str, tables: set[str], columns: set[str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
    assert (unexplained_tables(), unexplained_columns()) == (tables, columns)


@pytest.fixture
def filled(alice: User, bob: User, staff: User, settings: Any) -> Patient:
    """A patient about whom every table of the file has a row."""
    settings.AUDIT_SEAL_KEY = "k" * 32
    patient, duplicate = make_patient(alice), make_patient(alice, phone="+91 80 5550 0100")
    mapping = make_mapping(duplicate, make_doctor(alice))
    merge(patient, duplicate)
    PatientTransfer.objects.create(patient=patient, from_owner=alice, to_owner=bob)
    set_hold(patient.pk, reason="Case 2026-7")
    AccessLog.objects.record(
        staff.pk, "admin.patient.change", [patient.pk], basis=Basis.STAFF, request_id="r", outcome=200, pure_read=True
    )
    for record in (patient, mapping):
        LogEntry.objects.create(
            user=staff, content_type=ContentType.objects.get_for_model(type(record)), object_id=str(record.pk),
            object_repr="x", action_flag=CHANGE, change_message="x",
        )  # fmt: skip
        applied = Import.objects.create(created_by=alice, caller=bob.pk, kind=type(record).import_kind)
        ImportedLine.objects.create(
            parent=applied, created_by=alice, line=2, status="created", record_id=record.pk, version=1, server="s",
            old_id=7, likely=[{"id": 999_999}],
        )  # fmt: skip
    call_command("seal_audit", stdout=io.StringIO(), stderr=io.StringIO())
    return Patient.objects.get(pk=patient.pk)


def document_of(patient: Patient, *, names: bool = False) -> dict[str, Any]:
    content = io.BytesIO()
    write_person_file(content, patient, names=names)
    return parsed(content.getvalue())


def test_every_section_has_what_its_table_holds(filled: Patient) -> None:
    """So no table of the file is an empty promise."""
    document = document_of(filled)
    sections = {
        f"{name}.{section}": len(rows)
        for name in ("patient", "history", "care_team", "accesses", "seals")
        for section, rows in document[name].items()
    }
    assert sections == {
        "patient.records": 2,
        "history.changes": PatientEvent.objects.count(),
        "history.merges": 1,
        "history.transfers": 1,
        "history.holds": 1,
        "history.imports": 1,
        "care_team.assignments": 1,
        "care_team.changes": MappingEvent.objects.count(),
        "care_team.admin_log": 1,
        "care_team.imports": 1,
        "accesses.accesses": 1,
        "accesses.admin_log": 1,
        "seals.seals": 3,
        "seals.rows": PatientEvent.objects.count() + MappingEvent.objects.count() + 1,
    }


def test_every_column_of_the_record_and_of_an_assignment_is_in_the_file(filled: Patient) -> None:
    document = document_of(filled)
    record, assignment = document["patient"]["records"][0], document["care_team"]["assignments"][0]
    columns = {field.name for field in Patient._meta.concrete_fields}
    assert columns - record.keys() == {"created_by"}  # the owner, a user
    assert {field.name for field in Mapping._meta.concrete_fields} - assignment.keys() == {"created_by"}


def test_users_are_named_on_request_alone(filled: Patient) -> None:
    User.objects.update(name="Zebulon")
    assert "Zebulon" not in str(document_of(filled))
    named = document_of(filled, names=True)
    assert [access["by_name"] for access in named["accesses"]["accesses"]] == ["Zebulon"]
    assert [entry["by_name"] for entry in named["care_team"]["admin_log"]] == ["Zebulon"]
    assert named["history"]["transfers"][0]["to_name"] == "Zebulon"
    assert "Zebulon" in named["index"]
