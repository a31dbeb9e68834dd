"""`backup` writes one new file, whole or not at all."""

import os
import resource
import signal
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pyrage
import pytest
from django.db import connection
from django.test import override_settings

from healthcare.embedded.tests.harness import eventually
from healthcare.operations import programs
from healthcare.operations import unfinished_file as unfinished
from healthcare.operations.backup_errors import BackupError
from healthcare.operations.models import Backup
from healthcare.operations.tests.backups import (
    SECRET_NAME,
    connected_to,
    count,
    empty_database,
    refusal,
    run,
    source_database,
    start,
    waits_for_a_lock,
)
from healthcare.tests.live import url_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture(scope="module")
def database(django_db_setup: None, django_db_blocker: Any) -> Iterator[str]:
    with django_db_blocker.unblock(), override_settings(AUDIT_SEAL_KEY="k" * 40), source_database() as name:
        yield name


@pytest.fixture(autouse=True)
def connected(database: str) -> Iterator[None]:
    with connected_to(database):
        yield


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_is_private_and_the_time_is_recorded(tmp_path: Path) -> None:
    before = Backup.objects.count()
    original = os.umask(0o477)
    try:
        said = run("backup", tmp_path / "first")
    finally:
        os.umask(original)
    assert stat.S_IMODE((tmp_path / "first").stat().st_mode) == 0o600
    assert files_in(tmp_path) == ["first"]
    assert "not encrypted" in said
    newest = Backup.objects.first()
    assert newest
    assert (Backup.objects.count(), newest.size, newest.encrypted) == (
        before + 1, (tmp_path / "first").stat().st_size, False,
    )  # fmt: skip
    assert 0 <= (Backup.objects.age() or -1) < 600


def test_nothing_that_exists_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        assert "exists; a backup writes a new file" in refusal("backup", tmp_path / name)
    assert "exists" in refusal("backup", tmp_path)
    assert "is not a folder" in refusal("backup", tmp_path / "no" / "folder")
    assert "is not a folder" in refusal("backup", tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "kept"
    assert files_in(tmp_path) == ["file", "link"]


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: Any, hard_links: bool) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not hard_links:  # as on FAT
        monkeypatch.setattr(os, "link", refuse)
    with unfinished.unfinished_file(tmp_path / "alone") as file:
        file.write(b"whole")
    with pytest.raises(BackupError, match="exists"):
        write_while_another_does(tmp_path / "raced")
    assert ((tmp_path / "alone").read_bytes(), (tmp_path / "raced").read_text()) == (b"whole", "theirs")
    assert files_in(tmp_path) == ["alone", "raced"]


def write_while_another_does(target: Path) -> None:
    with unfinished.unfinished_file(target) as file:
        file.write(b"ours")
        target.write_text("theirs")


def test_a_recipient_that_is_no_public_key_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    for text in ("age1nonsense", "AGE-SECRET-KEY-1ABC", "somebody@example.org", "ssh-rsa x"):
        assert "--encrypt-to takes a public key" in refusal("backup", tmp_path / "new", "--encrypt-to", text)
    assert files_in(tmp_path) == []


def test_several_recipients_can_each_decrypt_it(tmp_path: Path) -> None:
    keys = [pyrage.x25519.Identity.generate() for _ in range(2)]
    options = [part for key in keys for part in ("--encrypt-to", str(key.to_public()))]
    assert ", encrypted." in run("backup", tmp_path / "new", *options)
    content = (tmp_path / "new").read_bytes()
    assert SECRET_NAME.encode() not in content
    plain = [pyrage.decrypt(content, [key]) for key in keys]
    assert plain[0] == plain[1]
    assert plain[0][:13] == b"manifest.json"


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_full_disk_leaves_no_file(tmp_path: Path, database: str, encrypted: bool) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    key = ["--encrypt-to", pyrage.x25519.Identity.generate().to_public()] if encrypted else []
    process = start("backup", database, tmp_path / "new", *key, preexec_fn=limit)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    assert errors.decode().splitlines()[-1] == f"CommandError: {tmp_path}/new could not be written: File too large."
    assert b"Traceback" not in errors
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, None), (signal.SIGKILL, -9)]
)
def test_a_signal_leaves_no_file(tmp_path: Path, database: str, number: signal.Signals, code: int | None) -> None:
    with closing(psycopg2.connect(url_of(database))) as blocker, blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE patients_patient IN ACCESS EXCLUSIVE MODE")
        process = start("backup", database, tmp_path / "new")
        eventually(waits_for_a_lock)
        assert len(files_in(tmp_path)) == 1
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == code or (code is None and process.returncode != 0)
    if number == signal.SIGKILL:  # the next backup removes what no process can
        assert files_in(tmp_path)[0].startswith(".new.unfinished-")
        run("backup", tmp_path / "new")
        assert files_in(tmp_path) == ["new"]
    assert [name for name in files_in(tmp_path) if name != "new"] == []


def test_a_lost_database_leaves_no_file(tmp_path: Path, database: str) -> None:
    with closing(psycopg2.connect(url_of(database))) as blocker, blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE patients_patient IN ACCESS EXCLUSIVE MODE")
        process = start("backup", database, tmp_path / "new")
        eventually(waits_for_a_lock)
        count(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.decode().splitlines()[-1].startswith("CommandError: The database could not be read: ")
    assert "Traceback" not in errors.decode()
    assert files_in(tmp_path) == []


def test_the_bundled_pg_dump_is_not_used_where_the_connection_uses_tls(tmp_path: Path, monkeypatch: Any) -> None:
    bundled, major = programs.find_program("pg_dump")
    monkeypatch.setattr(programs, "uses_tls", lambda connection: True)
    monkeypatch.setattr(programs, "FOLDERS_OF_CLIENTS", [])
    monkeypatch.setenv("PATH", str(tmp_path))
    if not programs.speaks_tls(bundled):
        assert f"Debian's package is postgresql-client-{major}." in refusal("backup", tmp_path / "new")
    (tmp_path / "pg_dump").write_text(f"#!/bin/sh\n[ $1 = --version ] && exec {bundled} --version\nexit 1\n")
    (tmp_path / "pg_dump").chmod(0o755)
    assert programs.find_pg_dump(connection) in (bundled, str(tmp_path / "pg_dump"))
    assert files_in(tmp_path) == ["pg_dump"]


def test_an_empty_database_has_nothing_to_back_up(tmp_path: Path) -> None:
    with empty_database():
        assert "has no tables of this project; run `python3 manage.py migrate`" in refusal("backup", tmp_path / "new")
    assert files_in(tmp_path) == []


def test_a_read_only_database_is_backed_up_without_a_record(tmp_path: Path, database: str) -> None:
    before = Backup.objects.count()
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    try:
        process = start("backup", database, tmp_path / "new")
        _, errors = process.communicate(timeout=100)
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
    assert process.returncode == 0
    assert "its time could not be recorded" in errors.decode()
    assert (files_in(tmp_path), Backup.objects.count()) == (["new"], before)
