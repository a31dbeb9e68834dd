"""manage.py export_patient and verify_file"""

import io
import json
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from accounts.models import User
from audit.models import AccessLog
from conftest import LoggedInClient
from patients.models import Patient
from patients.person_file.tests.reading import ask, parsed
from patients.person_file.verification import MOST_PARTS
from patients.tests.factories import make_patient
from patients.tests.merging import merge

pytestmark = pytest.mark.django_db(transaction=True)
Edit = Callable[[dict[str, bytes]], None]


@pytest.fixture
def patient(alice: User) -> Patient:
    return make_patient(alice, name="Ana Rao")


def export(patient: Patient | int, to: Path, *options: str) -> str:
    printed = io.StringIO()
    key = patient if isinstance(patient, int) else patient.pk
    call_command("export_patient", str(key), "--to", str(to), *options, stdout=printed)
    return printed.getvalue().strip()


def verify(file: Path) -> str:
    printed = io.StringIO()
    call_command("verify_file", str(file), stdout=printed)
    return printed.getvalue().strip()


def test_the_command_writes_what_the_api_answers(as_alice: LoggedInClient, patient: Patient, tmp_path: Path):
    answered = parsed(ask(as_alice, patient).content)
    AccessLog.objects.latest("id")
    printed = export(patient, tmp_path / "file.zip")
    written = parsed((tmp_path / "file.zip").read_bytes())
    assert written["accesses"]["accesses"][0]["action"] == "patient.file"  # the call before
    for part in ("patient", "history", "care_team"):
        assert written[part] == answered[part]
    assert printed.startswith(f"{tmp_path / 'file.zip'} is written, SHA-256 of its manifest ")
    assert stat.S_IMODE(os.stat(tmp_path / "file.zip").st_mode) == 0o600
    assert os.listdir(tmp_path) == ["file.zip"]
    assert verify(tmp_path / "file.zip").endswith(printed.rpartition(" ")[2])


def test_the_export_is_recorded_as_a_read_by_staff(staff: User, patient: Patient, tmp_path: Path):
    export(patient, tmp_path / "1.zip")
    export(patient, tmp_path / "2.zip", "--by", "staff")
    accesses = AccessLog.objects.order_by("id")
    assert [(access.actor, access.action, access.basis, access.patient_ids, access.outcome) for access in accesses] == [
        (actor, "patient.file", "staff", [patient.pk], 200) for actor in (0, staff.pk)
    ]
    assert all(access.request_id.startswith("manage.py export_patient by ") for access in accesses)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--owner", "bob"], "There is no patient {0} of this owner."),
        (["--owner", "nobody"], "--owner: There is no user with this username."),
        (["--by", "bob"], "--by: There is no active member of staff with this username."),
    ],
    ids=["another owner", "no owner", "no member of staff"],
)
def test_it_refuses(bob: User, patient: Patient, tmp_path: Path, options: list[str], message: str):
    with pytest.raises(CommandError) as refused:
        export(patient, tmp_path / "file.zip", *options)
    assert str(refused.value) == message.format(patient.pk)
    assert os.listdir(tmp_path) == []
    assert not AccessLog.objects.exists()


def test_a_merged_patient_and_a_missing_one_have_no_file(as_alice: LoggedInClient, patient: Patient, tmp_path: Path):
    duplicate = make_patient(patient.created_by)
    merge(as_alice, patient, duplicate)
    with pytest.raises(CommandError, match=f"^Patient {duplicate.pk} was merged into {patient.pk}: export that one"):
        export(duplicate, tmp_path / "file.zip")
    with pytest.raises(CommandError, match="^There is no patient 999999.$"):
        export(999_999, tmp_path / "file.zip")


def test_a_file_that_exists_stays_as_it_is(patient: Patient, tmp_path: Path):
    (tmp_path / "file.zip").write_text("mine")
    with pytest.raises(CommandError):
        export(patient, tmp_path / "file.zip")
    assert (tmp_path / "file.zip").read_text() == "mine"
    assert not AccessLog.objects.exists()


def alter(parts: dict[str, bytes]) -> None:
    parts["patient.json"] = parts["patient.json"].replace(b"Ana", b"Eve")


def lengthen(parts: dict[str, bytes]) -> None:
    parts["patient.json"] += b" "


def remove(parts: dict[str, bytes]) -> None:
    del parts["history.json"]


def remove_manifest(parts: dict[str, bytes]) -> None:
    del parts["manifest.json"]


def add(parts: dict[str, bytes]) -> None:
    parts["../evil\u202e.txt"] = b"x"


def add_many(parts: dict[str, bytes]) -> None:
    parts.update({f"{number}": b"" for number in range(MOST_PARTS)})


def change_manifest(change: Callable[[dict[str, Any]], Any]) -> Edit:
    def edit(parts: dict[str, bytes]) -> None:
        manifest = json.loads(parts["manifest.json"])
        change(manifest)
        parts["manifest.json"] = json.dumps(manifest).encode()

    return edit


NOT_OURS = "The manifest is not that of the format healthcare-person-file-1."


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (alter, "The part 'patient.json' is not as it was written."),
        (lengthen, "The part 'patient.json' is not as it was written."),
        (remove, "The part 'history.json' is missing."),
        (remove_manifest, "The part manifest.json is missing."),
        (add, "The part '../evil\\u202e.txt' is not in the manifest."),
        (add_many, "It has more than 1000 parts."),
        (change_manifest(lambda manifest: manifest.update(format="other")), NOT_OURS),
        (change_manifest(lambda manifest: manifest.update(parts=7)), NOT_OURS),
        (change_manifest(lambda manifest: manifest["parts"][0].update(size="x")), NOT_OURS),
        (lambda parts: parts.update({"manifest.json": b"[" * 100_000}), NOT_OURS),
        (lambda parts: parts.update({"manifest.json": b" " * 2_000_000}), "The manifest is too large."),
        (
            change_manifest(lambda manifest: manifest["parts"].append(manifest["parts"][0])),
            "The manifest lists a part twice, or itself.",
        ),
    ],
    ids=[
        "altered", "longer", "missing", "no manifest", "extra", "many", "another format", "no parts", "no size", "deep",
        "large", "listed twice",
    ],
)  # fmt: skip
def test_verify_file_finds_what_differs(patient: Patient, tmp_path: Path, edit: Edit, message: str):
    export(patient, tmp_path / "file.zip")
    with zipfile.ZipFile(tmp_path / "file.zip") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    edit(parts)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(CommandError) as refused:
        verify(tmp_path / "other.zip")
    assert str(refused.value) == message


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_verify_file_finds_a_doubled_part(patient: Patient, tmp_path: Path):
    export(patient, tmp_path / "file.zip")
    with zipfile.ZipFile(tmp_path / "file.zip", "a") as archive:
        archive.writestr("patient.json", archive.read("patient.json"))
    with pytest.raises(CommandError, match=r"^The part 'patient.json' is there 2 times.$"):
        verify(tmp_path / "file.zip")


@pytest.mark.parametrize("length", [0, 1, 100, -1, -30], ids=str)
def test_verify_file_finds_a_damaged_archive(patient: Patient, tmp_path: Path, length: int):
    export(patient, tmp_path / "file.zip")
    content = (tmp_path / "file.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[:length])
    with pytest.raises(CommandError, match="^This is no ZIP archive, or a damaged one.$"):
        verify(tmp_path / "cut.zip")


def test_verify_file_says_that_a_file_cannot_be_read(tmp_path: Path):
    with pytest.raises(CommandError, match=r"cannot be read: No such file or directory\.$"):
        verify(tmp_path / "none.zip")


def test_verify_file_needs_no_database(patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    export(patient, tmp_path / "file.zip")

    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(connections["default"], "ensure_connection", refuse)
    monkeypatch.setattr(connections["default"], "cursor", refuse)
    assert "Unaltered: 6 parts" in verify(tmp_path / "file.zip")
