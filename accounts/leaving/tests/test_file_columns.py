"""The file of an account, compared with the schema of the database: what may name a user is in it or has a reason."""

from typing import Any

import pytest
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test import RequestFactory
from django.utils import timezone

from accounts.delegations.models import Delegation, Notice
from accounts.invitations.models import Invitation
from accounts.leaving.file import write_file
from accounts.leaving.file_serializers import AccountDataSerializer
from accounts.leaving.tests.cast import with_token
from accounts.limits import LoginAttempt
from accounts.models import LoginAddress, LoginSession, User
from audit.models import AccessLog, Basis
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.imports.models import Import
from patients.models import PatientTransfer
from patients.tests.factories import make_patient

pytestmark = pytest.mark.django_db

# Every column of a whole number, of several, or of JSON, unless it is a primary key or a foreign key to another table
# than that of the users.
COLUMNS = """
SELECT c.relname || '.' || a.attname
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
    AND a.atttypid = ANY ('{bigint,integer,bigint[],integer[],jsonb}'::regtype[])
    AND NOT EXISTS (
        SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND a.attnum = ANY (k.conkey)
        AND (k.contype = 'f' AND k.confrelid <> 'accounts_user'::regclass
            OR k.contype = 'p' AND cardinality(k.conkey) = 1 AND NOT EXISTS (
                SELECT FROM pg_constraint f WHERE f.conrelid = c.oid AND f.contype = 'f' AND a.attnum = ANY (f.conkey)))
    )
"""
# Where the file has what these columns say about a user.
IN_FILE = {
    "accounts_delegation.owner_id": "delegations_given",
    "accounts_delegation.delegate_id": "delegations_received",
    "accounts_delegationevent.owner_id": "delegation_history",
    "accounts_delegationevent.delegate_id": "delegation_history",
    "accounts_invitation.created_by_id": "invitations_made",
    "accounts_invitation.used_by_id": "invitations_used",
    "accounts_loginaddress.user_id": "login_addresses",
    "accounts_loginsession.user_id": "sessions",
    "accounts_notice.user_id": "notices",
    "accounts_secondfactor.user_id": "second_factor",
    "accounts_secondfactor.last_step": "second_factor",
    "accounts_user_groups.user_id": "groups",
    "accounts_user_user_permissions.user_id": "permissions",
    "api_idempotencyrecord.user_id": "stored_answers",
    "audit_accesslog.actor": "access_log",
    "audit_accesslog.patient_ids": "access_log",
    "audit_userevent.id": "history",
    "django_admin_log.user_id": "admin_log",
    "doctors_doctor.created_by_id": "other",
    "imports_import.caller": "imports",
    "imports_import.created_by_id": "imports",
    "patients_patient.created_by_id": "records",
    "patients_patienttransfer.from_owner_id": "other",
    "patients_patienttransfer.to_owner_id": "other",
}
OF_ANOTHER = "is in the file of the user whose row it is"
CAUSED = "tells who changed a record; the changes of the account itself are in the file, with who made them"
OF_RECORD = "belongs to a patient's or a doctor's record, which the API answers to users who own or may read it"
NO_USER = "names no user"
EXCEPTIONS = {
    **dict.fromkeys(["accounts_loginsession.acting_for", "accounts_notice.by_id", "accounts_notice.about"], OF_ANOTHER),
    **dict.fromkeys(
        [
            f"{table}.pgh_context"
            for table in (
                "accounts_delegationevent", "audit_legalholdevent", "audit_userevent", "doctors_doctorevent",
                "mappings_mappingevent", "patients_patientevent",
            )
        ],
        CAUSED,
    ),
    "pghistory_context.metadata": "is of the library, which stores nothing there: events have a context of their own",
    **dict.fromkeys(
        [
            "doctors_doctorevent.created_by_id", "mappings_mapping.created_by_id",
            "mappings_mappingevent.created_by_id", "mappings_mappingevent.pgh_owner_id",
            "patients_patientevent.created_by_id",
            "patients_patientevent.pgh_owner_id", "patients_patientmerge.created_by_id", "patients_patientterm.owner",
            "patients_patientword.owner", "doctors_doctorterm.owner", "doctors_doctorword.owner",
        ],
        OF_RECORD,
    ),
    **dict.fromkeys(
        [
            "imports_import.parameters", "imports_import.summary", "imports_importedline.errors",
            "imports_importedline.likely", "imports_importedline.line", "imports_importedline.old_id",
            "imports_importedline.record_id", "imports_importedline.version", "imports_stagedfile.rows",
            "imports_stagedfile.written_line", "imports_stagedfile.written_rows", "imports_stagedrow.line",
            "accounts_attempts.count", "accounts_delegationevent.id", "api_idempotencyrecord.headers",
            "audit_archive.after_id", "audit_archive.last_id", "audit_archive.row_count", "audit_forgotten.row",
            "audit_legalhold.patient_id", "audit_legalhold.record_ids", "audit_legalholdevent.id",
            "audit_legalholdevent.patient_id", "audit_legalholdevent.record_ids", "audit_seal.last_id",
            "audit_seal.row_ids", "audit_verificationmark.positions", "audit_verificationmark.seal_id",
            "doctors_doctor.version", "doctors_doctorevent.id", "doctors_doctorevent.version",
            "doctors_doctorterm.record", "fhir_bulkexport.parameters", "mappings_mapping.version",
            "mappings_mappingevent.doctor_id", "mappings_mappingevent.id", "mappings_mappingevent.patient_id",
            "mappings_mappingevent.version", "operations_backup.size", "patients_erasurereceipt.counts",
            "patients_patient.contacts", "patients_patient.identifiers", "patients_patient.version",
            "patients_patientevent.contacts", "patients_patientevent.id", "patients_patientevent.identifiers",
            "patients_patientevent.merged_into_id", "patients_patientevent.version", "patients_patientmerge.filled",
            "patients_patientmerge.first_version", "patients_patientmerge.last_version", "patients_patientmerge.moved",
            "patients_patientmerge.replaced", "patients_patientmerge.version", "patients_patientterm.record",
            "patients_patienttransfer.patient_id", "replicas_ownerwrite.transaction",
        ],
        NO_USER,
    ),
    **dict.fromkeys(
        ["fhir_bulkexport.caller_id", "fhir_bulkexport.created_by_id"],
        "is of a request for files, which is forgotten after a day; the access log has what was read",
    ),
    "replicas_ownerwrite.owner": "numbers the transactions that have changed the user's records, which are in the file",
    "imports_stagedfile.created_by_id": "is of a file that becomes an import, or is forgotten after seven days",
    "imports_importedline.created_by_id": "is that of the import, which is in the file",
    "patients_erasurereceipt.record_id": "names a user who has been erased; the receipt is what the log needs",
}  # fmt: skip


def columns_of_database() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(COLUMNS)
        return {name for (name,) in cursor.fetchall()}


def test_every_column_that_may_name_a_user_is_in_the_file_or_an_exception() -> None:
    """A new one fails here: put what it says about a user into the file, or say why not."""
    known = IN_FILE.keys() | EXCEPTIONS.keys()
    found = columns_of_database()
    assert (found - known, known - found) == (set(), set())
    assert not IN_FILE.keys() & EXCEPTIONS.keys()


def test_a_new_table_with_a_user_is_found() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE badge (id bigint PRIMARY KEY, holder bigint, owner_id int REFERENCES accounts_user)"
        )
    assert {"badge.holder", "badge.owner_id"} == columns_of_database() - IN_FILE.keys() - EXCEPTIONS.keys()


def test_every_column_of_a_user_is_in_the_file_but_the_password() -> None:
    columns = {field.name for field in User._meta.concrete_fields}
    assert columns - {*AccountDataSerializer.Meta.fields} == {"password"}


def fill(user: User, other: User, enrol: Any) -> None:
    """Give the user a row for each member of the file."""
    client = LoggedInClient(user)
    with_token(user)
    enrol(user)
    client.patch("/api/auth/me/", {"name": "Alice B."})
    doctor = client.post("/api/doctors/", {"name": "Dr. New"}, headers={"Idempotency-Key": "1"})
    assert doctor.status_code == 201
    make_doctor(other)
    LoginAttempt.begin(RequestFactory().post("/"), user.username, user)
    LoginAddress.objects.create(user=user, network="127.0.0.1", last_login_at=timezone.now())
    for owner, delegate in ((user, other), (other, user)):
        Delegation.objects.create(owner=owner, delegate=delegate, role="read", note="nights")
        Notice.objects.create(user=owner, kind="delegation_given", by=delegate, about={"id": 1})
        Import.objects.create(created_by=owner, caller=delegate.pk, kind="patients")
        Invitation.objects.create(created_by=owner, used_by=delegate, used_at=timezone.now(), email="x@example.org")
        PatientTransfer.objects.create(patient=make_patient(owner), from_owner=owner, to_owner=delegate)
        AccessLog.objects.record(
            owner.pk, "patient.retrieve", [7], basis=Basis.OWNER, request_id="r", outcome=200, pure_read=True
        )
    Invitation.objects.create(created_by=other, email=str(user.email).upper())
    group, _ = Group.objects.get_or_create(name="nurses")
    group.user_set.add(user)
    user.user_permissions.add(Permission.objects.get(codename="view_doctor"))
    LogEntry.objects.create(
        user=user, content_type=ContentType.objects.get_for_model(User), object_id="1", object_repr="Mary Jones",
        action_flag=ADDITION, change_message="Mary Jones",
    )  # fmt: skip


def test_every_member_of_the_file_has_what_its_table_holds(alice: User, bob: User, enrol: Any) -> None:
    """So no member of IN_FILE is an empty promise, and each says as much of bob, and not of alice."""
    fill(alice, bob, enrol)
    document = write_file(User.objects.get(pk=alice.pk))
    for column, member in IN_FILE.items():
        assert document[member], column
    assert document["tokens"]
    assert document["attempts"]
    assert document["access_log"]["entries"]
    assert [len(document["other"][name]) for name in ("transfers", "doctors_added")] == [2, 1]
    lengths = {
        name: len(document[name])
        for name in (
            "delegations_given", "delegations_received", "notices", "invitations_made", "invitations_used",
            "invitations_received",
        )
    }  # fmt: skip
    assert set(lengths.values()) == {1}
    assert [(row["created_by"], row["caller"]) for row in document["imports"]] == [
        (bob.pk, alice.pk),
        (alice.pk, bob.pk),
    ]
    assert document["records"] == {"patients": 1}
    assert LoginSession.objects.filter(user=alice).count() == len(document["sessions"]) + len(document["tokens"])
