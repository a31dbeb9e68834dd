"""A patient under a legal hold is not deleted, merged, unmerged or erased, until the hold is released."""

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.utils import DatabaseError

from accounts.models import User
from audit.models import AccessLog, LegalHold, LegalHoldEvent
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.tests.admin_pages import AdminClient, allow, errors_of
from healthcare.tests.live import LiveServer
from mappings.models import Mapping, MappingEvent
from mappings.tests.factories import make_mapping
from patients.models import ErasureReceipt, Patient, PatientEvent, PatientMerge
from patients.tests.factories import make_patient
from patients.tests.merging import merge, unmerge

REASON = "Case 2026-7"
NOT_DELETED = "This patient is under a legal hold and is not deleted until the hold is released; ask a member of staff."
NOT_MERGED = (
    "A patient of this merge is under a legal hold, and is neither merged nor unmerged until the hold is released; ask "
    "a member of staff."
)


def hold(patient: Patient, *options: str) -> str:
    printed = io.StringIO()
    call_command("legal_hold", str(patient.pk), *(options or ("--reason", REASON)), stdout=printed)
    return printed.getvalue().strip()


def release(patient: Patient) -> str:
    return hold(patient, "--release")


def refused(answer: Any) -> str:
    """The detail of a 409, which names no reason of the hold."""
    assert answer.status_code == 409, answer.content
    assert REASON not in answer.content.decode()
    return str(answer.json()["detail"])


@pytest.fixture
def patient(alice: User) -> Patient:
    return make_patient(alice, name="Ana")


def test_a_held_patient_is_not_deleted_and_stays_as_it_is(as_alice: LoggedInClient, patient: Patient) -> None:
    path = f"/api/patients/{patient.pk}/"
    before = as_alice.get(path)
    assert hold(patient) == f"Patient {patient.pk} is under a legal hold."
    held = as_alice.get(path)
    assert (held.json(), held["ETag"]) == (before.json(), before["ETag"])  # a hold is not the patient's data
    assert refused(as_alice.delete(path)) == NOT_DELETED
    assert refused(as_alice.delete(path, headers={"If-Match": held["ETag"]})) == NOT_DELETED
    assert as_alice.get(path).json() == before.json()
    assert as_alice.patch(path, {"address": "elsewhere"}).status_code == 200
    release(patient)
    assert as_alice.delete(path).status_code == 204


def test_another_owner_cannot_tell_that_a_patient_is_held(as_bob: LoggedInClient, patient: Patient) -> None:
    hold(patient)
    assert as_bob.delete(f"/api/patients/{patient.pk}/").status_code == 404


@pytest.mark.parametrize("side", ["survivor", "duplicate"])
def test_a_held_patient_is_neither_merged_nor_unmerged(as_alice: LoggedInClient, alice: User, side: str) -> None:
    survivor, duplicate = make_patient(alice, name="Ana"), make_patient(alice, name="Anna")
    make_mapping(duplicate, make_doctor(alice))
    held = survivor if side == "survivor" else duplicate
    hold(held)
    assert refused(merge(as_alice, survivor, duplicate)) == NOT_MERGED
    assert Mapping.objects.get().patient_id == duplicate.pk
    release(held)
    assert merge(as_alice, survivor, duplicate).status_code == 200
    if side == "duplicate":
        with pytest.raises(CommandError, match=f"^Patient {duplicate.pk} was merged into {survivor.pk}: hold that one"):
            hold(duplicate)
    assert hold(survivor).endswith(f"With it are held the records merged into it: {duplicate.pk}.")
    assert refused(unmerge(as_alice, survivor, duplicate)) == NOT_MERGED
    other = make_patient(alice, name="Third")
    assert refused(merge(as_alice, other, survivor)) == NOT_MERGED
    release(survivor)
    assert unmerge(as_alice, survivor, duplicate).status_code == 200


def test_a_hold_survives_the_deletion_before_it_and_a_restore(as_alice: LoggedInClient, patient: Patient) -> None:
    path = f"/api/patients/{patient.pk}/"
    assert as_alice.delete(path).status_code == 204
    hold(patient)
    assert as_alice.post(f"{path}restore/").status_code == 200
    assert refused(as_alice.delete(path)) == NOT_DELETED


def erase(command: str, subject: Any, *options: str) -> None:
    call_command(command, str(subject), "--reason", "Request 17", "--yes", *options, stdout=io.StringIO())


def test_nothing_about_a_held_patient_is_erased(as_alice: LoggedInClient, alice: User) -> None:
    patient, doctor = make_patient(alice), make_doctor(alice)
    mapping = make_mapping(patient, doctor)
    as_alice.get(f"/api/patients/{patient.pk}/")
    Mapping.objects.end()
    hold(patient)
    before = [model.objects.count() for model in (Patient, PatientEvent, Mapping, MappingEvent, AccessLog)]
    sentence = f"^Patient {patient.pk} is under a legal hold: nothing was removed."
    for command, subject, *options in (
        ("erase_patient", patient.pk), ("erase_patient", patient.pk, "--dry-run"), ("erase_doctor", doctor.pk),
    ):  # fmt: skip
        with pytest.raises(CommandError, match=sentence):
            erase(command, subject, *options)
    assert [model.objects.count() for model in (Patient, PatientEvent, Mapping, MappingEvent, AccessLog)] == before
    assert not ErasureReceipt.objects.exists()
    release(patient)
    erase("erase_doctor", doctor.pk)
    assert not Mapping.objects.filter(pk=mapping.pk).exists()
    erase("erase_patient", patient.pk)


def test_an_erasure_leaves_what_an_undone_merge_copied_into_a_held_patient(
    as_alice: LoggedInClient, alice: User
) -> None:
    survivor, duplicate = make_patient(alice, name="Ana"), make_patient(alice, name="Anna", address="Here")
    merge(as_alice, survivor, duplicate)
    unmerge(as_alice, survivor, duplicate)
    hold(survivor)
    events = PatientEvent.objects.count()
    with pytest.raises(CommandError, match=f"^Patient {survivor.pk} is under a legal hold"):
        erase("erase_patient", duplicate.pk)
    assert PatientEvent.objects.count() == events
    release(survivor)
    erase("erase_patient", duplicate.pk)


@pytest.mark.parametrize("address", ["Here", ""])  # copied by the merge, or nothing
@pytest.mark.parametrize("held_side", ["survivor", "duplicate"])
def test_an_erasure_leaves_an_undone_merge_with_a_held_patient(
    as_alice: LoggedInClient, alice: User, held_side: str, address: str
) -> None:
    survivor, duplicate = make_patient(alice, name="Ana"), make_patient(alice, name="Anna", address=address)
    merge(as_alice, survivor, duplicate)
    unmerge(as_alice, survivor, duplicate)
    held, other = (survivor, duplicate) if held_side == "survivor" else (duplicate, survivor)
    hold(held)
    before = PatientEvent.objects.count(), PatientMerge.objects.count()
    with pytest.raises(CommandError, match=f"^Patient {held.pk} is under a legal hold"):
        erase("erase_patient", other.pk)
    assert (PatientEvent.objects.count(), PatientMerge.objects.count()) == before
    release(held)
    erase("erase_patient", other.pk)


def test_erasing_the_survivor_of_a_merge_is_refused_with_the_hold_on_it(as_alice: LoggedInClient, alice: User) -> None:
    survivor, duplicate = make_patient(alice), make_patient(alice)
    merge(as_alice, survivor, duplicate)
    hold(survivor)
    with pytest.raises(CommandError, match=f"^Patient {survivor.pk} is under a legal hold"):
        erase("erase_patient", survivor.pk)
    with pytest.raises(DatabaseError, match="under a legal hold"), transaction.atomic():
        Patient.objects.filter(pk=duplicate.pk)._raw_delete("default")


def test_the_command_says_what_is_wrong(patient: Patient) -> None:
    for options, sentence in (
        ([], "^Give --reason TEXT to set a hold, or --release to release it.$"),
        (["--reason", " "], "^--reason: "),
        (["--reason", "a\nb"], "^--reason: Enter one line of visible text.$"),
        (["--reason", REASON, "--by", "nobody"], "^--by: There is no active member of staff"),
        (["--release"], f"^Patient {patient.pk} is under no legal hold.$"),
    ):
        with pytest.raises(CommandError, match=sentence):
            call_command("legal_hold", str(patient.pk), *options)
    with pytest.raises(CommandError, match=r"^There is no patient 999999999\.$"):
        call_command("legal_hold", "999999999", "--reason", REASON)
    hold(patient)
    with pytest.raises(CommandError, match="already under a legal hold"):
        hold(patient)


def test_the_history_says_who_set_and_released_a_hold_and_why(patient: Patient, staff: User) -> None:
    hold(patient, "--reason", REASON, "--by", "staff")
    hold(patient, "--release", "--reason", "Case closed", "--by", "staff")
    events = LegalHoldEvent.objects.order_by("pgh_id")
    assert [(event.pgh_label, event.reason, event.release_reason) for event in events] == [
        ("insert", REASON, ""), ("update", REASON, "Case closed"),
    ]  # fmt: skip
    [record] = LegalHold.objects.all()
    assert (record.set_username, record.released_username) == ("staff", "staff")
    assert record.set_account
    for change in ({"reason": "x"}, {"released_at": None}):
        with pytest.raises(DatabaseError, match="can only be released, and once"), transaction.atomic():
            LegalHold.objects.update(**change)
    with pytest.raises(DatabaseError, match="Cannot delete rows"), transaction.atomic():
        LegalHold.objects.all().delete()
    hold(patient)  # again
    assert LegalHold.objects.active().count() == 1


def test_the_role_of_the_api_reads_and_writes_no_hold(patient: Patient) -> None:
    hold(patient)
    for table in ("audit_legalhold", "audit_legalholdevent"):
        for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"):
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT has_any_column_privilege('healthcare_api', %s, 'SELECT, INSERT, UPDATE')", [table]
                )
                assert cursor.fetchone() == (False,)
                cursor.execute("SELECT has_table_privilege('healthcare_api', %s, %s)", [table, privilege])
                assert cursor.fetchone() == (False,)


HOLDS, PATIENTS = "/admin/audit/legalhold/", "/admin/patients/patient/"


def test_staff_set_and_release_a_hold_in_the_admin(patient: Patient, staff: User) -> None:
    client = AdminClient(staff)
    assert client.submit(f"{HOLDS}add/", patient_id=str(patient.pk), reason=REASON).status_code == 302
    [record] = LegalHold.objects.active()
    assert (record.patient_id, record.record_ids, record.set_username) == (patient.pk, [patient.pk], "staff")
    assert LegalHoldEvent.objects.get().pgh_context["actor"] == staff.pk
    refusal = errors_of(client.submit(f"{HOLDS}add/", patient_id=str(patient.pk), reason=REASON))
    assert f"Patient {patient.pk} is already under a legal hold." in refusal["patient_id"]
    refusal = errors_of(client.submit(f"{HOLDS}add/", patient_id="999999999", reason=REASON))
    assert refusal == {"patient_id": ["There is no patient 999999999."]}
    assert "reason" in errors_of(client.submit(f"{HOLDS}add/", patient_id=str(patient.pk), reason=""))
    page = client.page(f"{HOLDS}{record.pk}/change/")
    assert REASON in page
    assert "Ana" not in page
    client.confirm(client.act(HOLDS, "release", [record]))
    record.refresh_from_db()
    assert (record.released_username, LegalHold.objects.active().count()) == ("staff", 0)


def test_the_admin_deletes_no_held_patient(patient: Patient, alice: User, staff: User) -> None:
    client, other = AdminClient(staff), make_patient(alice, name="Other")
    hold(patient)
    assert "under a legal hold" in client.page(f"{PATIENTS}{patient.pk}/delete/")
    client.post(f"{PATIENTS}{patient.pk}/delete/", {"post": "yes"})
    page = client.act(PATIENTS, "delete_selected", [patient, other], post="yes")
    assert "under a legal hold" in page.content.decode()
    assert Patient.objects.active().count() == 2
    release(patient)
    client.act(PATIENTS, "delete_selected", [patient, other], post="yes")
    assert Patient.objects.active().count() == 0


def test_the_admin_needs_a_permission_to_set_and_one_to_release(patient: Patient, make_user: Any) -> None:
    viewer = AdminClient(allow(make_user("viewer", is_staff=True), "view_legalhold"))
    hold(patient)
    [record] = LegalHold.objects.all()
    assert viewer.get(f"{HOLDS}add/").status_code == 403
    assert viewer.act(HOLDS, "release", [record], post="yes").status_code == 403
    assert viewer.post(f"{HOLDS}{record.pk}/delete/", {"post": "yes"}).status_code == 403
    assert LegalHold.objects.active().count() == 1
    releaser = AdminClient(allow(make_user("releaser", is_staff=True), "view_legalhold", "change_legalhold"))
    releaser.confirm(releaser.act(HOLDS, "release", [record]))
    assert LegalHold.objects.active().count() == 0


@pytest.fixture
def session(live: LiveServer) -> Iterator[Any]:
    opened = psycopg2.connect(live.database_url)
    yield opened
    opened.close()


def wait_for_a_lock(live: LiveServer) -> None:
    watching = psycopg2.connect(live.database_url)
    watching.autocommit = True
    with watching.cursor() as cursor:
        for _ in range(600):
            cursor.execute(
                "SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) "
                "WHERE datname = current_database() AND NOT granted"
            )
            if cursor.fetchone() is not None:
                watching.close()
                return
            time.sleep(0.02)
    raise AssertionError("nobody waits for a lock")


INSERT = (
    "INSERT INTO audit_legalhold (patient_id, record_ids, reason, set_account, set_username, released_account, "
    "released_username, release_reason) VALUES (%s, '{}', 'x', '', '', '', '', '')"
)


def manage(live: LiveServer, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "django", *command],
        cwd=settings.BASE_DIR, env={**os.environ, **live.environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("way", ["delete", "merge", "merge of the other", "erase_patient"])
def test_a_hold_that_is_set_while_a_removal_starts_is_seen_by_it(live: LiveServer, session: Any, way: str) -> None:
    """The hold is set in a transaction that has not committed when the removal begins."""
    token = live.register()[1]["access"]
    patient, other = (
        live.call("POST", "/api/patients/", {"name": name}, token).json["id"] for name in ("Ana", "Other")
    )
    answers: list[Any] = []

    def remove() -> None:
        if way == "delete":
            answers.append(live.call("DELETE", f"/api/patients/{patient}/", token=token).status)
        elif way == "erase_patient":
            ended = manage(live, "erase_patient", str(patient), "--reason", "r", "--yes")
            answers.append(409 if "is under a legal hold: nothing was removed" in ended.stderr else ended)
        else:
            survivor, duplicate = (patient, other) if way == "merge" else (other, patient)
            body = {"duplicate": duplicate}
            answers.append(live.call("POST", f"/api/patients/{survivor}/merge/", body, token).status)

    with session.cursor() as cursor:
        cursor.execute(INSERT, [patient])
    removal = threading.Thread(target=remove)
    removal.start()
    wait_for_a_lock(live)
    session.commit()
    removal.join()
    assert answers == [409]
    assert live.call("GET", f"/api/patients/{patient}/", token=token).status == 200


def test_a_hold_waits_for_a_deletion_that_has_not_committed(live: LiveServer, session: Any) -> None:
    token = live.register()[1]["access"]
    patient = live.call("POST", "/api/patients/", {"name": "Ana"}, token).json["id"]
    with session.cursor() as cursor:
        cursor.execute("DELETE FROM patients_patient WHERE id = %s", [patient])
    answers: list[Any] = []
    setting = threading.Thread(
        target=lambda: answers.append(manage(live, "legal_hold", str(patient), "--reason", "r").stderr)
    )
    setting.start()
    wait_for_a_lock(live)
    session.commit()
    setting.join()
    assert answers == [f"CommandError: There is no patient {patient}.\n"]
