"""`archive` moves old history and access log into one file; `verify_archive` and `verify_audit` find what is amiss."""

import errno
import gzip
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from io import StringIO, TextIOWrapper
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from accounts.models import User
from audit import archive as archiving
from audit.archive_file import ArchiveError, verify_file
from audit.archived_rows import contains, pack, unpack
from audit.backup import SealsPart
from audit.management.commands.archive import Command
from audit.models import AccessLog, Archive
from audit.seals import seal_key
from audit.tables import Table
from audit.tests.old_rows import move_to_month
from audit.tests.test_seals import seal, superuser, verify
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.operations.backup_errors import BackupError
from healthcare.operations.backup_parts import RestoreOptions
from healthcare.operations.unfinished_file import sync_folder
from mappings.models import MappingEvent
from mappings.tests.factories import make_mapping
from patients.models import Patient, PatientEvent
from patients.tests.factories import make_patient
from patients.tests.merging import merge
from patients.transfers import move_patients


def archive(path: Path, before: str = "2026-03") -> str:
    printed = StringIO()
    call_command("archive", str(path), "--before", before, stdout=printed)
    return printed.getvalue()


def verify_archive(path: Path) -> str:
    printed = StringIO()
    call_command("verify_archive", str(path), stdout=printed)
    return printed.getvalue()


def grow_old(month: str = "2026-01") -> None:
    with connection.cursor() as cursor:
        move_to_month(cursor, month)


@pytest.fixture
def patient(alice: User, as_alice: LoggedInClient) -> Patient:
    """A patient with three states and reads in January, one change in February and one now. The old rows are sealed."""
    patient = make_patient(alice, name="N0")
    make_mapping(patient, make_doctor(alice))
    for number in (1, 2):
        as_alice.patch(f"/api/patients/{patient.pk}/", {"name": f"N{number}"})
        as_alice.get("/api/patients/")
    grow_old("2026-01")
    seal()
    as_alice.patch(f"/api/patients/{patient.pk}/", {"name": "N3"})
    grow_old("2026-02")
    seal()
    as_alice.patch(f"/api/patients/{patient.pk}/", {"name": "N4"})
    return patient


def names(patient: Patient) -> list[str]:
    return list(PatientEvent.objects.filter(id=patient.pk).order_by("pgh_id").values_list("name", flat=True))


def rows_of(path: Path, table: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    return [line["row"] for line in lines if line.get("table") == table]


def test_old_rows_move_into_the_file(patient: Patient, as_alice: LoggedInClient, tmp_path: Path) -> None:
    path, url = tmp_path / "a", f"/api/patients/{patient.pk}/"
    before = {row.pk: row.action for row in AccessLog.objects.filter(at__lt="2026-03-01 00:00Z")}
    newer = AccessLog.objects.filter(at__gte="2026-03-01 00:00Z").count()
    current, versions = as_alice.get(url).json(), as_alice.get(f"{url}history/").json()
    seal()
    assert "Removed" in archive(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["a"]
    # The last state before March is kept; what came before it is in the file.
    assert names(patient) == ["N3", "N4"]
    assert [row["name"] for row in rows_of(path, "patients_patientevent")] == ["N0", "N1", "N2"]
    assert {row["id"]: row["action"] for row in rows_of(path, "audit_accesslog")} == before
    assert AccessLog.objects.filter(at__gte="2026-03-01 00:00Z").count() >= newer
    assert not AccessLog.objects.filter(at__lt="2026-03-01 00:00Z").exists()
    assert MappingEvent.objects.count() == 1
    assert verify_archive(path).splitlines()[-1].startswith("Unaltered: ")
    assert f", {len(before) + 3} archived" in verify()
    # Answers about the present and about the time since stay as they were.
    assert as_alice.get(url).json() == current
    assert as_alice.get(url, {"as_of": "2026-03-01T00:00:00Z"}).json()["name"] == "N3"
    assert [row["name"] for row in as_alice.get("/api/patients/", {"as_of": "2026-03-02T00:00:00Z"}).json()] == ["N3"]
    shown = as_alice.get(f"{url}history/").json()
    assert shown[0] == versions[0]
    oldest = {name: pair for name, pair in shown[1]["changes"].items() if name in {"name", "age", "birth_year"}}
    assert (len(shown), shown[1]["version"], shown[1]["action"]) == (2, versions[1]["version"], "update")
    assert oldest["name"] == [None, "N3"]
    accesses = as_alice.get(f"{url}access-log/").json()
    assert accesses
    assert all(row["at"] >= "2026-03" for row in accesses)
    verify()


def test_the_kept_history_of_a_transferred_patient_is_its_present_owners(
    patient: Patient, alice: User, as_alice: LoggedInClient, bob: User, as_bob: LoggedInClient, tmp_path: Path
) -> None:
    path, url = tmp_path / "a", f"/api/patients/{patient.pk}/"
    with transaction.atomic():
        move_patients([patient.pk], alice, bob, None)
    seal()
    archive(path)
    verify_archive(path)
    verify()
    assert [row["name"] for row in rows_of(path, "patients_patientevent")] == ["N0", "N1", "N2"]
    assert [entry["version"] for entry in as_bob.get(f"{url}history/").json()] == [6, 5, 4]
    at = {"as_of": "2026-03-02T00:00:00Z"}
    assert as_bob.get(url, at).json()["name"] == "N3"
    for listed in ("/api/patients/", "/api/mappings/"):
        assert (len(as_bob.get(listed, at).json()), as_alice.get(listed, at).json()) == (1, []), listed
    assert [as_alice.get(url, at).status_code, as_alice.get(f"{url}history/").status_code] == [404, 404]


@pytest.mark.parametrize("fast_path", ["on", "off"])
def test_the_history_without_its_beginning_is_the_same_on_both_paths(
    alice: User, as_alice: LoggedInClient, tmp_path: Path, settings: Any, fast_path: str
) -> None:
    """The oldest kept event of a merged patient is the merge, whose state before is unknown."""
    settings.FAST_PATH = fast_path
    survivor, duplicate = make_patient(alice, name="Ana"), make_patient(alice, name="Anna")
    merge(as_alice, survivor, duplicate)
    grow_old()
    seal()
    archive(tmp_path / "a")
    [entry] = as_alice.get(f"/api/patients/{duplicate.pk}/history/").json()
    assert (entry["action"], entry["changes"]["name"]) == ("update", [None, "Anna"])


@pytest.mark.parametrize("path", ["/api/patients/", "/api/patients/{}/", "/api/mappings/{}/", "/api/doctors/"])
def test_as_of_a_time_before_the_cut_is_refused(
    patient: Patient, as_alice: LoggedInClient, tmp_path: Path, path: str
) -> None:
    archive(tmp_path / "a")
    answer = as_alice.get(path.format(patient.pk), {"as_of": "2026-02-28T23:59:59Z"})
    assert answer.status_code == 400
    [error] = answer.json()["errors"]
    assert (error["code"], error["detail"]) == (
        "archived", "The history before 2026-03-01T00:00:00Z has been archived; write this time or a later one.",
    )  # fmt: skip
    assert as_alice.get(path.format(patient.pk), {"as_of": "2026-03-01T00:00:00Z"}).status_code == 200


def test_what_one_archive_kept_goes_into_the_next_once_it_is_superseded(
    patient: Patient, alice: User, tmp_path: Path
) -> None:
    unchanged = make_patient(alice, name="Unchanged")
    grow_old("2026-03")
    seal()
    archive(tmp_path / "a", "2026-02")
    assert names(patient) == ["N2", "N3", "N4"]
    verify()
    archive(tmp_path / "b", "2026-04")
    assert names(patient) == ["N4"]
    assert names(unchanged) == ["Unchanged"]
    assert [row["name"] for row in rows_of(tmp_path / "b", "patients_patientevent")] == ["N2", "N3"]
    verify()
    with pytest.raises(CommandError, match="^There is nothing to archive before 2026-04.$"):
        archive(tmp_path / "c", "2026-04")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_what_cannot_be_archived_is_refused(
    patient: Patient, as_alice: LoggedInClient, tmp_path: Path, settings: Any
) -> None:
    path, events, accesses = tmp_path / "a", PatientEvent.objects.count(), AccessLog.objects.count()
    for bad in ("2026-13", "2026-00", "26-01", "2026-1", "2026-01-01", "x", "", "٢٠٢٦-01", "0000-01"):
        with pytest.raises(CommandError, match="^--before takes a month such as 2026-03.$"):
            archive(path, bad)
    for early in ("2026-12", "2027-01", "9999-12"):
        with pytest.raises(CommandError, match=f"^The month before {early} is not over"):
            archive(path, early)
    path.write_text("mine")
    with pytest.raises(CommandError, match="exists; give the name of a new file.$"):
        archive(path)
    assert path.read_text() == "mine"
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(CommandError, match="exists; give the name of a new file.$"):
        archive(path)
    path.unlink()
    with pytest.raises(CommandError, match="cannot be written: No such file or directory.$"):
        archive(tmp_path / "missing" / "a")
    as_alice.get("/api/patients/")
    grow_old("2026-02")
    with pytest.raises(CommandError, match="^Rows of [a-z_]+ are not sealed yet: run seal_audit"):
        archive(path)
    settings.AUDIT_SEAL_KEY = ""
    with pytest.raises(CommandError, match="^AUDIT_SEAL_KEY is not set"):
        archive(path)
    assert os.listdir(tmp_path) == []
    assert (PatientEvent.objects.count(), AccessLog.objects.count()) == (events, accesses + 1)


def test_a_month_of_a_held_patient_is_refused(
    patient: Patient, alice: User, as_alice: LoggedInClient, tmp_path: Path
) -> None:
    merged = make_patient(alice, name="Merged")
    merge(as_alice, patient, merged)
    grow_old("2026-04")
    seal()
    call_command("legal_hold", str(patient.pk), "--reason", "Case 7", stdout=StringIO())
    sentence = f"^Patient {patient.pk} is under a legal hold and has rows of 2026-01: nothing was archived."
    with pytest.raises(CommandError, match=sentence):
        archive(tmp_path / "a", "2026-05")
    with pytest.raises(CommandError, match="^There is nothing to archive"):
        archive(tmp_path / "a", "2026-01")
    assert os.listdir(tmp_path) == []
    call_command("legal_hold", str(patient.pk), "--release", stdout=StringIO())
    archive(tmp_path / "a", "2026-05")
    # What is left of the patient are the last states, which no archive removes: they are no obstacle.
    call_command("legal_hold", str(patient.pk), "--reason", "Case 8", stdout=StringIO())
    other = make_patient(alice, name="Other")
    Patient.objects.filter(pk=other.pk).update(name="Changed")
    grow_old("2026-06")
    seal()
    archive(tmp_path / "b", "2026-07")
    assert names(other) == ["Changed"]


def test_a_month_that_holds_nothing_but_the_last_state_of_a_held_patient_is_refused(
    patient: Patient, alice: User, tmp_path: Path
) -> None:
    idle = make_patient(alice, name="Idle")
    grow_old("2026-04")
    seal()
    hold(idle)
    sentence = f"^Patient {idle.pk} is under a legal hold and has rows of 2026-04: nothing was archived."
    with pytest.raises(CommandError, match=sentence):
        archive(tmp_path / "a", "2026-05")
    archive(tmp_path / "a", "2026-04")
    with pytest.raises(CommandError, match=sentence):
        archive(tmp_path / "b", "2026-05")
    assert os.listdir(tmp_path) == ["a"]


def test_a_bad_month_is_one_sentence_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        Command().run_from_argv(["manage.py", "archive", str(tmp_path / "a"), "--before", "2026-13", "--skip-checks"])
    assert (ended.value.code, capsys.readouterr().err) == (1, "CommandError: --before takes a month such as 2026-03.\n")


SYNC_FOLDER = sync_folder


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Lets something happen between the verification of the file and the record of it."""

    def act(action: Callable[[], None]) -> None:
        def sync(path: Path) -> None:
            action()
            SYNC_FOLDER(path)

        monkeypatch.setattr(archiving, "sync_folder", sync)

    return act


def hold(patient: Patient) -> None:
    call_command("legal_hold", str(patient.pk), "--reason", "Case 7", stdout=StringIO())


def erase(patient: Patient) -> None:
    call_command("erase_patient", str(patient.pk), "--reason", "r", "--yes", stdout=StringIO())


MEANWHILE: dict[str, tuple[Callable[[Patient, Path], None], str]] = {
    "hold": (lambda patient, _: hold(patient), "is under a legal hold and has rows of 2026-01"),
    "erasure": (lambda patient, _: erase(patient), "^A person was erased meanwhile; nothing was archived, try again.$"),
    "archive": (lambda _, path: other_archive(path), "^Another archive was written meanwhile; nothing was archived"),
}


def other_archive(path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archiving, "sync_folder", SYNC_FOLDER)
        archive(path, "2026-02")


@pytest.mark.parametrize("what", MEANWHILE)
def test_what_happens_before_the_file_is_recorded_is_noticed(
    patient: Patient, tmp_path: Path, meanwhile: Any, what: str
) -> None:
    action, sentence = MEANWHILE[what]
    meanwhile(lambda: action(patient, tmp_path / "other"))
    with pytest.raises(CommandError, match=sentence):
        archive(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert not Archive.objects.filter(file="a").exists()
    verify()


def test_a_full_disk_removes_nothing(patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    count = PatientEvent.objects.count()
    monkeypatch.setattr("audit.archive_file.os.fsync", full)
    with pytest.raises(CommandError, match="cannot be written: No space left on device.$"):
        archive(tmp_path / "a")
    assert os.listdir(tmp_path) == []
    assert (PatientEvent.objects.count(), Archive.objects.count()) == (count, 0)


def test_a_folder_that_cannot_be_synced_removes_nothing_and_keeps_no_file(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(archiving, "sync_folder", fail)
    with pytest.raises(CommandError, match="cannot be written: Input/output error.$"):
        archive(tmp_path / "a")
    assert os.listdir(tmp_path) == []
    assert not Archive.objects.exists()
    monkeypatch.undo()
    archive(tmp_path / "a")


def test_output_that_nobody_reads_is_not_taken_for_the_file(patient: Patient, tmp_path: Path) -> None:
    receiver, sender = os.pipe()
    os.close(receiver)
    with open(sender, "wb", buffering=0) as pipe:
        printed = TextIOWrapper(pipe, write_through=True)
        with pytest.raises(BrokenPipeError):
            call_command("archive", str(tmp_path / "a"), "--before", "2026-03", stdout=printed)
    assert "going on with the removal" in archive(tmp_path / "a")
    verify_archive(tmp_path / "a")


def test_a_name_that_is_not_in_utf_8_leaves_no_file(patient: Patient, tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        archive(tmp_path / "\udcff")
    assert os.listdir(tmp_path) == []
    assert not Archive.objects.exists()


def test_a_file_whose_rows_are_removed_is_named_as_such(patient: Patient, tmp_path: Path) -> None:
    """The run was killed after the last row, or nobody remembers it: the file must not be deleted."""
    archive(tmp_path / "a")
    with pytest.raises(CommandError, match="exists and holds rows that were removed from the database: keep it, and "):
        archive(tmp_path / "a")
    verify_archive(tmp_path / "a")


def test_a_second_run_to_the_same_file_is_refused(patient: Patient, tmp_path: Path) -> None:
    with archiving.open_partial(tmp_path / "a.archive-partial") as running:
        with pytest.raises(CommandError, match="^Another run writes a.archive-partial; wait for it.$"):
            archive(tmp_path / "a")
        running.write(b"left by a run that was killed")
    archive(tmp_path / "a")
    verify_archive(tmp_path / "a")
    assert os.listdir(tmp_path) == ["a"]


def test_any_altered_missing_or_added_byte_of_the_file_is_found(patient: Patient, tmp_path: Path) -> None:
    path, changed, key = tmp_path / "a", tmp_path / "b", seal_key()
    archive(path)
    content = path.read_bytes()
    tampered = [content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :] for place in range(len(content))]
    tampered += [content[:length] for length in range(len(content))]
    tampered += [content + b"\0", content + content, b"\0" + content, content[:100] + content[101:], b""]
    for bad in tampered:
        changed.write_bytes(bad)
        with pytest.raises(ArchiveError):
            verify_file(changed, key)
    with pytest.raises(ArchiveError):
        verify_file(path, b"another key")
    with pytest.raises(CommandError, match="was altered or truncated, is no archive, or was written with another"):
        verify_archive(changed)
    with pytest.raises(CommandError, match="cannot be read: No such file"):
        verify_archive(tmp_path / "missing")


def test_a_file_is_verified_without_the_database(patient: Patient, tmp_path: Path, settings: Any) -> None:
    archive(tmp_path / "a")
    nowhere = {
        "DATABASE_URL": "postgres://nobody@127.0.0.1:1/nothing",
        "DEBUG": "True",
        "SECRET_KEY": token_urlsafe(60),
    }
    ended = subprocess.run(
        [sys.executable, "manage.py", "verify_archive", str(tmp_path / "a")],
        cwd=settings.BASE_DIR,
        env={**os.environ, **nowhere, "AUDIT_SEAL_KEY": settings.AUDIT_SEAL_KEY},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == verify_archive(tmp_path / "a")


def rewritten(path: Path, change: Callable[[list[bytes]], None]) -> bytes:
    """The file with other lines and all that can be computed without the key."""
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    change(lines)
    return gzip.compress(b"".join(lines[:-1])) + path.read_bytes()[-(len(lines[-1]) + 23) :]


def test_a_forged_file_does_not_verify(patient: Patient, tmp_path: Path) -> None:
    path = tmp_path / "a"
    archive(path)
    for change in (lambda lines: lines.pop(1), lambda lines: lines.insert(1, lines[1]), lambda lines: lines.reverse()):
        forged = tmp_path / "forged"
        forged.write_bytes(rewritten(path, change))
        with pytest.raises(ArchiveError):
            verify_file(forged, seal_key())


def test_rows_that_were_tampered_with_are_not_archived(patient: Patient, tmp_path: Path) -> None:
    [first, *_] = PatientEvent.objects.filter(id=patient.pk).order_by("pgh_id")
    with superuser() as cursor:
        cursor.execute("UPDATE patients_patientevent SET name = 'Eve' WHERE pgh_id = %s", [first.pk])
    with pytest.raises(CommandError, match=f"^patients_patientevent {first.pk} was altered.$"):
        archive(tmp_path / "a")
    with superuser() as cursor:
        cursor.execute("DELETE FROM patients_patientevent WHERE pgh_id = %s", [first.pk])
    with pytest.raises(CommandError, match=f"^patients_patientevent {first.pk} is missing.$"):
        archive(tmp_path / "a")
    with superuser() as cursor:
        cursor.execute("UPDATE audit_seal SET at = now() WHERE \"table\" = 'patients_patientevent'")
    with pytest.raises(CommandError, match="^audit_seal [0-9]+ was altered"):
        archive(tmp_path / "a")
    assert os.listdir(tmp_path) == []


TAMPERING = {
    "a kept row": "DELETE FROM patients_patientevent WHERE name = 'N3'",
    "a newer row": "DELETE FROM patients_patientevent WHERE name = 'N4'",
    "the record of the archive": "DELETE FROM audit_archive WHERE \"table\" = 'patients_patientevent'",
    "all records of archives": "DELETE FROM audit_archive",
    "a wider range": "UPDATE audit_archive SET last_id = 1000000",
    "no kept rows": "UPDATE audit_archive SET kept = earlier",
    "another file": "UPDATE audit_archive SET digest = repeat('0', 64)",
    "a row put back among archived ones": "INSERT INTO audit_accesslog (id, at, actor, action, patient_ids, basis, "
    "request_id, outcome) SELECT min(id) - 1000, min(at), 1, 'x', '{}', 'owner', '', 200 FROM audit_accesslog",
}


@pytest.mark.parametrize("what", TAMPERING)
def test_what_is_removed_and_not_archived_is_found(patient: Patient, tmp_path: Path, what: str) -> None:
    seal()
    archive(tmp_path / "a")
    verify()
    with superuser() as cursor:
        cursor.execute(TAMPERING[what])
        assert cursor.rowcount
    with pytest.raises(CommandError, match=" is missing.$| was altered| was inserted after its time was sealed.$"):
        verify()


def test_a_restore_refuses_an_altered_record_of_an_archive_with_one_sentence(patient: Patient, tmp_path: Path) -> None:
    archive(tmp_path / "a")
    part = SealsPart()
    described = part.describe()
    with superuser() as cursor:
        cursor.execute(TAMPERING["another file"])
    with pytest.raises(BackupError, match=r"^The seals do not hold, .*: audit_archive [0-9]+ was altered\.$"):
        part.finish(described, RestoreOptions(False, print))


def test_an_erasure_after_an_archive_leaves_the_chain_verifiable(
    patient: Patient, as_alice: LoggedInClient, tmp_path: Path
) -> None:
    archive(tmp_path / "a", "2026-02")
    archive(tmp_path / "b")
    printed = StringIO()
    call_command("legal_hold", str(patient.pk), "--reason", "Case 7", stdout=printed)
    call_command("legal_hold", str(patient.pk), "--release", stdout=printed)
    call_command("erase_patient", str(patient.pk), "--reason", "r", "--yes", stdout=printed)
    lines = printed.getvalue().splitlines()
    assert lines[1] == "Older rows may be in archives; keep these files: a, b."
    assert lines[-1] == "Not erased: rows in archives, which are a, b."
    verify()
    seal()
    verify()


def test_an_archive_after_an_erasure_holds_nothing_of_the_person(
    patient: Patient, alice: User, as_alice: LoggedInClient, tmp_path: Path
) -> None:
    make_patient(alice, name="Stays")
    as_alice.get("/api/patients/")
    grow_old("2026-04")
    seal()
    call_command("erase_patient", str(patient.pk), "--reason", "r", "--yes", stdout=StringIO())
    seal()
    archive(tmp_path / "a", "2026-05")
    content = gzip.decompress((tmp_path / "a").read_bytes()).decode()
    assert "N0" not in content
    assert all(patient.pk not in row["patient_ids"] for row in rows_of(tmp_path / "a", "audit_accesslog"))
    verify()


def test_rows_sealed_before_a_column_was_added_are_archived(patient: Patient, tmp_path: Path) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE patients_patientevent ADD COLUMN blood_group text NOT NULL DEFAULT 'A'")
    table_of, wanted = Table.of, Table.of(PatientEvent)
    with pytest.MonkeyPatch.context() as patch:
        later = replace(wanted, columns=(*wanted.columns, "blood_group"))
        patch.setattr(Table, "of", lambda model: later if model is PatientEvent else table_of(model))
        archive(tmp_path / "a")
    assert {row["blood_group"] for row in rows_of(tmp_path / "a", "patients_patientevent")} == {"A"}
    verify()


def test_ids_are_packed_without_loss() -> None:
    for ids in ([], [5], [-(2**63) + 1, 0, 7, 8, 2**62], list(range(1000))):
        assert list(unpack(pack(reversed(ids)))) == ids
        assert [one for one in range(-2, 1002) if contains(ids, one)] == [one for one in ids if -2 <= one < 1002]
