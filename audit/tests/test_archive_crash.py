"""`kill -9` of `archive` between any two steps loses no row: each is in the database or in a verified file on disk."""

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from django.conf import settings

from audit.archive_file import verify_file
from audit.tests.old_rows import move_to_month
from audit.tests.test_seals import SEAL_KEY
from healthcare.tests.live import LiveServer

pytestmark = pytest.mark.slow

PROGRAM = """
import os, signal, sys
import django
django.setup()
from django.core.management import call_command
from audit import archive
from audit.archive_file import ArchiveWriter

archive.ROWS_PER_REMOVAL = 2
def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
def killing_after(function, times=1):
    calls = []
    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        calls.append(1)
        if len(calls) == times:
            kill()
        return result
    return call
step, path = sys.argv[1:]
call_command("seal_audit", stdout=sys.stderr)
if step == "while rows are written":
    ArchiveWriter.add = killing_after(ArchiveWriter.add, 3)
elif step == "before the file is on disk":
    archive.os.fsync = kill
elif step == "before it is verified":
    archive.verify_file = kill
elif step == "before it has its name":
    archive.os.link = kill
elif step == "when it has its name":
    archive.os.link = killing_after(os.link)
elif step == "before it is recorded":
    archive.record_archive = kill
elif step == "before rows are removed":
    archive.remove_archived_rows = kill
elif step == "while rows are removed":
    left = archive.rows_left
    def one_batch(item):
        for number, batch in enumerate(left(item)):
            if number == 1:
                kill()
            yield batch
    archive.rows_left = one_batch
    archive.unfinished_digest = lambda: None
call_command("archive", path, "--before", "2026-03")
"""
FINISH = """
import sys
import django
django.setup()
from django.core.management import CommandError, call_command
refused, path = sys.argv[1:]
call_command("verify_audit", full=True)
if refused:
    try:
        call_command("archive", refused, "--before", "2026-03")
    except CommandError as error:
        assert "was interrupted; give that file" in str(error), error
    else:
        raise AssertionError("not refused")
call_command("archive", path, "--before", "2026-03")
call_command("verify_audit", full=True)
"""
BEFORE_THE_RECORD = [
    "while rows are written", "before the file is on disk", "before it is verified", "before it has its name",
    "when it has its name", "before it is recorded",
]  # fmt: skip
AFTER_THE_RECORD = ["before rows are removed", "while rows are removed"]
TABLES = {"patients_patientevent": "pgh_id", "audit_accesslog": "id"}


def empty_audit(session: Any) -> None:
    """Without what earlier tests have sealed, whose rows are newer than the old ones of this test."""
    with session, session.cursor() as cursor:
        cursor.execute("SELECT table_name FROM information_schema.columns WHERE column_name = 'pgh_created_at'")
        tables = [name for (name,) in cursor.fetchall()]
        tables += ["audit_accesslog", "audit_seal", "audit_archive", "audit_forgotten", "audit_verificationmark"]
        cursor.execute(f"TRUNCATE {', '.join(tables)}")


def ids_in_database(session: Any) -> set[tuple[str, int]]:
    found: set[tuple[str, int]] = set()
    with session, session.cursor() as cursor:
        for table, key in TABLES.items():
            cursor.execute(f"SELECT {key} FROM {table}")  # noqa: S608
            found |= {(table, row_id) for (row_id,) in cursor.fetchall()}
    return found


def ids_in_file(path: Path) -> set[tuple[str, int]]:
    """What a verified archive holds."""
    verify_file(path, SEAL_KEY.encode())
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    rows = [(line["table"], line["row"]) for line in lines if line.get("table") in TABLES]
    return {(table, row[TABLES[table]]) for table, row in rows}


def number_of_archives(session: Any) -> int:
    with session, session.cursor() as cursor:
        cursor.execute("SELECT count(DISTINCT digest) FROM audit_archive")
        return int(cursor.fetchone()[0])


def python(live: LiveServer, program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, **live.environment, "AUDIT_SEAL_KEY": SEAL_KEY}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("step", [*BEFORE_THE_RECORD, *AFTER_THE_RECORD])
def test_no_row_is_lost(live: LiveServer, tmp_path: Path, step: str) -> None:
    path, session = tmp_path / "a", psycopg2.connect(live.database_url)
    empty_audit(session)
    token = live.register()[1]["access"]
    key = live.call("POST", "/api/patients/", {"name": "Ana"}, token).json["id"]
    for number in range(6):
        live.call("PATCH", f"/api/patients/{key}/", {"name": f"N{number}"}, token)
    with session, session.cursor() as cursor:
        move_to_month(cursor, "2026-01")
    before, archives = ids_in_database(session), number_of_archives(session)
    killed = python(live, PROGRAM, step, str(path))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    recorded = step in AFTER_THE_RECORD
    assert number_of_archives(session) == archives + recorded
    left = ids_in_database(session)
    assert (left | ids_in_file(path) if recorded else left) == before
    again = tmp_path / "b" if path.exists() and not recorded else path
    finished = python(live, FINISH, str(tmp_path / "other") if recorded else "", str(again))
    assert finished.returncode == 0, finished.stderr
    assert ids_in_database(session) | ids_in_file(again) == before
    assert len(ids_in_database(session) & ids_in_file(again)) == 0
    session.close()


def test_requests_do_not_wait_for_an_archive(live: LiveServer) -> None:
    """The locks of its two kinds of transactions, held open: while it records the file, and while it removes rows."""
    token = live.register()[1]["access"]
    one, other = (live.call("POST", "/api/patients/", {"name": name}, token).json["id"] for name in ("Ana", "Anna"))
    for number in range(3):
        live.call("PATCH", f"/api/patients/{one}/", {"name": f"N{number}"}, token)
    now = live.call("GET", f"/api/patients/{one}/", token=token).json["updated_at"]
    session = psycopg2.connect(live.database_url)
    with session.cursor() as cursor:
        cursor.execute("LOCK TABLE audit_archive IN SHARE ROW EXCLUSIVE MODE")
        cursor.execute("LOCK TABLE audit_legalhold IN SHARE MODE")
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("DELETE FROM patients_patientevent WHERE id = %s AND version < 4", [one])
        cursor.execute("DELETE FROM audit_accesslog WHERE patient_ids @> ARRAY[%s::bigint]", [one])
        assert cursor.rowcount > 0
    calls = [
        ("GET", f"/api/patients/{one}/", None),
        ("GET", f"/api/patients/{one}/history/", None),
        ("GET", f"/api/patients/{one}/access-log/", None),
        ("GET", f"/api/patients/?as_of={now}", None),
        ("PATCH", f"/api/patients/{one}/", {"name": "Ana"}),
        ("POST", f"/api/patients/{one}/merge/", {"duplicate": other}),
        ("POST", f"/api/patients/{one}/unmerge/", {"duplicate": other}),
        ("DELETE", f"/api/patients/{one}/", None),
    ]
    statuses = [live.call(method, path, body, token).status for method, path, body in calls]
    session.rollback()
    session.close()
    assert statuses == [200] * 7 + [204]
