"""`manage.py export_records`: the bytes of the API, in a file of its own."""

import os
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from accounts.models import User
from audit.models import AccessLog
from doctors.tests.factories import make_doctor
from mappings.tests.factories import make_mapping
from patients.tests.factories import make_patient

pytestmark = pytest.mark.django_db(transaction=True)


def export(kind: str, path: Path | str, **options: Any) -> None:
    call_command("export_records", kind, str(path), **options)


@pytest.mark.parametrize("kind", ["patients", "doctors", "mappings"])
@pytest.mark.parametrize("options", [{}, {"format": "ndjson"}, {"bom": True, "fields": "id,created_at,server"}])
def test_the_file_has_the_bytes_of_the_api(
    as_alice: Any, alice: User, bob: User, tmp_path: Path, kind: str, options: dict[str, Any], capsys: Any
):
    make_mapping(make_patient(alice, name="=1"), make_doctor(alice))
    make_patient(bob)
    export(kind, tmp_path / "file", owner="Alice", **options)
    query = {name: str(value) for name, value in options.items()}
    assert (tmp_path / "file").read_bytes() == b"".join(as_alice.get(f"/api/{kind}/export/", query).streaming_content)
    assert os.stat(tmp_path / "file").st_mode & 0o777 == 0o600
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]
    assert capsys.readouterr().out == f"{tmp_path / 'file'} is written: 1 {kind}.\n"


def test_every_batch_is_recorded_with_the_account_of_the_operating_system(alice: User, tmp_path: Path):
    patient = make_patient(alice)
    export("patients", tmp_path / "file", owner="alice@example.org")
    access = AccessLog.objects.get()
    assert (access.actor, access.action, access.patient_ids) == (0, "patient.export", [patient.pk])
    assert (access.basis, access.outcome) == ("staff", 200)
    assert access.request_id.startswith("manage.py export_records by ")


def test_standard_output_has_the_file_alone(alice: User, capsysbinary: Any):
    make_patient(alice, name="Ann")
    export("patients", "-", owner="alice", fields="name")
    assert capsysbinary.readouterr().out == b"name\r\nAnn\r\n"


def test_doctors_need_no_owner(alice: User, tmp_path: Path):
    make_doctor(alice, name="Dr. Rao")
    export("doctors", tmp_path / "file", fields="name")
    assert (tmp_path / "file").read_bytes() == b"name\r\nDr. Rao\r\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "--owner: Say whose records to export."),
        ({"owner": "nobody"}, "--owner: There is no user with this username."),
        ({"owner": "alice", "fields": "nothing"}, "--fields: Send a comma-separated list of these names"),
        ({"owner": "alice", "bom": True, "format": "ndjson"}, "--bom: Only CSV has a byte order mark"),
    ],
)
def test_what_cannot_be_exported_leaves_no_file(alice: User, tmp_path: Path, options: dict[str, Any], message: str):
    with pytest.raises(CommandError, match=message):
        export("patients", tmp_path / "file", **options)
    assert [*tmp_path.iterdir()] == []


def test_a_file_is_never_replaced(alice: User, tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CommandError, match="give the name of a new file"):
        export("patients", tmp_path / "file", owner="alice")
    assert (tmp_path / "file").read_text() == "mine"


def test_an_export_that_fails_leaves_no_file(alice: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_patient(alice)

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(AccessLog.objects, "record", fail)
    with pytest.raises(ZeroDivisionError):
        export("patients", tmp_path / "file", owner="alice")
    assert [*tmp_path.iterdir()] == []


def test_a_running_export_of_the_owner_does_not_matter(as_alice: Any, alice: User, tmp_path: Path):
    make_patient(alice)
    running = as_alice.get("/api/patients/export/")
    export("patients", tmp_path / "file", owner="alice")
    assert (tmp_path / "file").read_bytes() == b"".join(running.streaming_content)
