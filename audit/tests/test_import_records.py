"""`manage.py import_records`: files of any size, all or nothing or in parts, and their output."""

import io
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DEFAULT_DB_ALIAS, connections

from accounts.models import User
from audit.models import AccessLog
from healthcare.imports import staging
from healthcare.imports.models import Import, ImportedLine, StagedFile, StagedRow
from healthcare.imports.pipeline import ImportRun
from healthcare.rls.context import without_role
from patients.models import Patient, PatientEvent
from patients.tests.factories import make_patient

pytestmark = pytest.mark.django_db(transaction=True)  # the command enters transactions as the owner

HEADER = "name,birth_date,gender,identifier"
GOOD = [f"Person Number{n},19{n}0-03-0{n},F,N-{n}" for n in range(1, 6)]
BAD = "Person Bad,1990-13-01,F,N-9"


def write(folder: Path, *lines: str, name: str = "patients.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([HEADER, *lines]))
    return path


def run(path: Path, *options: str, owner: str = "alice", kind: str = "patients") -> tuple[str, str]:
    """What it prints, and the error it ends with."""
    output, error = io.StringIO(), ""
    try:
        call_command("import_records", kind, str(path), "--owner", owner, *options, stdout=output, stderr=output)
    except CommandError as refused:
        error = str(refused)
    return output.getvalue(), error


def numbers(**counts: int) -> str:
    statuses = ["created", "updated", "unchanged", "skipped", "likely", "failed"]
    return "".join(f"  {status} {counts.get(status, 0)}\n" for status in statuses)


def test_a_check_writes_nothing(alice: User, tmp_path: Path) -> None:
    output, error = run(write(tmp_path, *GOOD))
    assert (output, error) == ("Checked; nothing was written.\n" + numbers(created=5), "")
    assert not Patient.objects.exists()
    assert not Import.objects.exists()
    assert not StagedFile.objects.exists()


@pytest.mark.parametrize("options", [[], ["--apply"], ["--apply", "--partial"]])
def test_unknown_columns_refuse_a_file_without_records(alice: User, tmp_path: Path, options: list[str]) -> None:
    path = tmp_path / "patients.csv"
    path.write_text("nam\n")
    assert "did you mean `name`?" in run(path, *options)[1]
    assert not Import.objects.exists()
    assert not StagedFile.objects.exists()


def test_apply_writes_as_the_owner_and_leaves_nothing_staged(alice: User, bob: User, tmp_path: Path) -> None:
    output, error = run(write(tmp_path, *GOOD), "--apply")
    done = Import.objects.get()
    assert (output, error) == (f"Imported, as import {done.pk}.\n" + numbers(created=5), "")
    assert (done.created_by, done.caller, done.kind) == (alice, alice.pk, "patients")
    assert [patient.name for patient in Patient.objects.owned_by(alice).order_by("pk")] == [
        f"Person Number{n}" for n in range(1, 6)
    ]
    assert not StagedFile.objects.exists()
    assert not StagedRow.objects.exists()
    context = PatientEvent.objects.values_list("pgh_context", flat=True).distinct().get()
    assert (context["actor"], context["application"]) == (alice.pk, "manage.py import_records")
    access = AccessLog.objects.get()
    assert (access.actor, access.action, access.patient_ids) == (
        alice.pk,
        "patient.import",
        sorted(Patient.objects.values_list("pk", flat=True)),
    )


def test_a_row_that_fails_stops_all_of_them_and_is_told_without_its_values(alice: User, tmp_path: Path) -> None:
    path, errors = write(tmp_path, *GOOD, BAD), tmp_path / "errors.csv"
    for mode in ([], ["--apply"]):
        output, error = run(path, *mode, "--errors", str(errors))
        assert error == "1 rows failed."
        assert output.splitlines()[0] == "line 7: birth_date: Write an existing day as 2026-03-03."
        assert output.endswith(numbers(created=5, failed=1))
        assert "1990-13" not in output
        assert errors.read_text().splitlines() == [
            "line,status,pointer,code,detail",
            "7,failed,/birth_date,invalid,Write an existing day as 2026-03-03.",
        ]
        assert oct(errors.stat().st_mode)[-3:] == "600"
    assert not Patient.objects.exists()
    assert not StagedFile.objects.exists()
    assert not Import.objects.exists()


def test_a_partial_import_writes_the_others(alice: User, tmp_path: Path) -> None:
    output, error = run(write(tmp_path, *GOOD[:2], BAD, *GOOD[2:]), "--apply", "--partial")
    assert error == "1 rows failed."
    assert output.endswith(numbers(created=5, failed=1))
    assert Patient.objects.count() == 5
    contexts = PatientEvent.objects.values_list("pgh_context__actor", "pgh_context__application").distinct()
    assert list(contexts) == [(alice.pk, "manage.py import_records")]
    assert list(ImportedLine.objects.order_by("line").values_list("line", "status")) == [
        (2, "created"), (3, "created"), (4, "failed"), (5, "created"), (6, "created"), (7, "created")
    ]  # fmt: skip
    assert not StagedFile.objects.exists()


def test_the_same_command_writes_a_file_once(alice: User, tmp_path: Path) -> None:
    path = write(tmp_path, *GOOD)
    run(path, "--apply", "--match", "none", "--on-likely", "create")
    again = run(path, "--apply", "--match", "none", "--on-likely", "create")
    done = Import.objects.get()
    assert again == (
        f"This command has imported this file already, as import {done.pk}; nothing was written. --again imports it "
        "once more.\n" + numbers(created=5),
        "",
    )
    assert Patient.objects.count() == 5
    run(path, "--apply", "--match", "none", "--on-likely", "create", "--again")
    assert (Import.objects.count(), Patient.objects.count()) == (2, 10)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"name,nam\nA,B\n", [], "nam: Unknown column; did you mean `name`?"),
        (b"name\n\xff\n", [], "Line 2 is not text in utf-8."),
        (b"name\nA\n", ["--date-format", "%d.%m.%y"], "date_format: Write the day as %d"),
        (b"name\nA\n", ["--encoding", "klingon"], "encoding: Write a label"),
        (b"", [], "The file is empty."),
    ],
    ids=["column", "encoding", "date-format", "label", "empty"],
)
def test_a_refused_file_or_option_leaves_nothing(
    alice: User, tmp_path: Path, content: bytes, options: list[str], message: str
) -> None:
    path = tmp_path / "patients.csv"
    path.write_bytes(content)
    for mode in ([], ["--apply"]):
        output, error = run(path, *mode, *options)
        assert error.startswith(message)
    assert not StagedFile.objects.exists()


def test_it_needs_a_file_and_an_owner(alice: User, tmp_path: Path) -> None:
    missing = tmp_path / "missing.csv"
    assert run(missing) == ("", f"{missing}: No such file or directory.")
    assert run(missing, "--apply")[1] == f"{missing}: No such file or directory."
    assert run(write(tmp_path), owner="nobody") == ("", "--owner: There is no active user with this username.")
    assert run(write(tmp_path, name="x.txt")) == (
        "",
        "The name of the file ends neither in .csv nor in .ndjson; give its --format.",
    )


@pytest.mark.parametrize("options", [[], ["--partial"]], ids=["whole", "in-parts"])
def test_a_file_that_another_command_has_staged_is_no_part_of_this_one(
    alice: User, bob: User, tmp_path: Path, options: list[str]
) -> None:
    other = StagedFile.objects.create(created_by=bob, digest="of another file")
    for line in (2, 100):
        StagedRow.objects.create(file=other, line=line, content="[{}, []]")
    assert run(write(tmp_path, *GOOD), "--apply", *options)[1] == ""
    assert Patient.objects.count() == 5
    assert [*StagedRow.objects.order_by("line").values_list("file", "line")] == [(other.pk, 2), (other.pk, 100)]


@pytest.mark.parametrize("options", [[], ["--partial"]], ids=["whole", "in-parts"])
def test_a_file_that_another_run_has_locked_is_not_written(
    alice: User, tmp_path: Path, options: list[str], monkeypatch: Any
) -> None:
    read = staging.stage
    with closing(connections.create_connection(DEFAULT_DB_ALIAS)) as another, another.cursor() as cursor:

        def locked_by_another_run(*args: Any) -> None:
            read(*args)
            another.set_autocommit(False)
            cursor.execute("SELECT id FROM imports_stagedfile FOR UPDATE")

        monkeypatch.setattr(staging, "stage", locked_by_another_run)
        assert run(write(tmp_path, *GOOD), "--apply", *options)[1] == staging.SAME_FILE_RUNNING
        another.rollback()
    assert not Patient.objects.exists()
    assert StagedRow.objects.count() == 5


def test_a_file_that_another_run_reads_is_not_read_twice(alice: User, tmp_path: Path, monkeypatch: Any) -> None:
    def interrupted(*_: Any) -> None:
        raise staging.StagingError("interrupted")

    path = write(tmp_path, *GOOD)
    with monkeypatch.context() as patched:
        patched.setattr(staging, "copy_rows", interrupted)
        assert run(path, "--apply")[1] == "interrupted"
    with closing(connections.create_connection(DEFAULT_DB_ALIAS)) as another, another.cursor() as cursor:
        another.set_autocommit(False)
        cursor.execute("SELECT id FROM imports_stagedfile FOR UPDATE")
        assert run(path, "--apply")[1] == staging.SAME_FILE_RUNNING
        another.rollback()
    assert not StagedRow.objects.exists()
    assert (run(path, "--apply")[1], Patient.objects.count()) == ("", 5)


@pytest.mark.parametrize("options", [[], ["--partial"]], ids=["whole", "in-parts"])
def test_rows_that_are_removed_meanwhile_stop_the_import(
    alice: User, tmp_path: Path, options: list[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(staging, "ROWS_PER_BATCH", 2)
    import_batch = ImportRun.import_batch

    def removing_the_rest(*args: Any) -> Any:
        with without_role():
            StagedRow.objects.all().delete()
        return import_batch(*args)

    monkeypatch.setattr(ImportRun, "import_batch", removing_the_rest)
    path = write(tmp_path, *GOOD)
    assert run(path, "--apply", *options)[1] == staging.STAGED_ROWS_REMOVED
    assert Patient.objects.count() == (2 if options else 0)
    monkeypatch.undo()
    assert (run(path, "--apply", *options)[1], Patient.objects.count()) == ("", 5)


def test_erasing_a_patient_removes_what_is_staged_for_its_owner(alice: User, bob: User) -> None:
    patient = make_patient(alice)
    for owner in (alice, bob):
        file = StagedFile.objects.create(created_by=owner, digest=owner.username, rows=1)
        StagedRow.objects.create(file=file, line=2, content="[{}, []]")
    call_command("erase_patient", str(patient.pk), "--reason", "asked", "--yes", stdout=io.StringIO())
    assert list(StagedRow.objects.values_list("file__created_by", flat=True)) == [bob.pk]


def test_doctors_and_assignments_are_imported_too(alice: User, tmp_path: Path) -> None:
    doctors, mappings = tmp_path / "doctors.csv", tmp_path / "mappings.ndjson"
    doctors.write_text("name,specialization,license_number\nDr. Rao,Cardiology,L-1\n")
    mappings.write_text('{"patient_identifier": "N-1", "doctor_license": "L-1"}\n')
    files = [(write(tmp_path, *GOOD), "patients"), (doctors, "doctors"), (mappings, "mappings")]
    for path, kind in files:
        output, error = run(path, "--apply", kind=kind)
        assert (output.splitlines()[1], error) == (f"  created {5 if kind == 'patients' else 1}", "")
    assert [access.action for access in AccessLog.objects.order_by("pk")] == ["patient.import", "mapping.import"]
