"""A database with records of alice and bob, and its backups."""

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from rest_framework.test import APIClient

from accounts.models import LoginSession, User
from accounts.personal_tokens.rules import create_token
from accounts.tokens import issue_token_pair
from healthcare.operations.backup_file import BackupReader, BackupWriter, Manifest
from healthcare.tests.live import own_database, url_of
from healthcare.tests.migrated import DATABASE, ensure_template_database

KEY = "seal-key-of-the-tests-0123456789abcdef"
SECRET_NAME = "Unmistakable Patient"
PATHS = ["/api/patients/", "/api/mappings/", "/api/doctors/", "/api/patients/1/", "/api/patients/1/history/"]


@contextmanager
def connected_to(database: str) -> Iterator[None]:
    """Connects the default connection to another database of the tests' server."""
    connection.close()
    original, connection.settings_dict["NAME"] = connection.settings_dict["NAME"], database
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = original


@contextmanager
def empty_database(owner: str = "") -> Iterator[str]:
    with own_database(owner) as name, connected_to(name):
        yield name


@contextmanager
def source_database() -> Iterator[str]:
    """A database with two owners' records, written through the API, with history, access log and seals."""
    ensure_template_database()
    with own_database(template=DATABASE) as name:
        with connected_to(name):
            write_records()
        yield name


def write_records() -> None:
    for username in ("alice", "bob"):
        User.objects.create_user(username, f"{username}@example.org", "StrongPass123", name=username.title())
    client = client_of("alice")
    patient = client.post("/api/patients/", {"name": SECRET_NAME, "gender": "F"}).json()
    doctor = client.post("/api/doctors/", {"name": "Grace Hopper", "specialization": "Cardiology"}).json()
    client.post("/api/mappings/", {"patient": patient["id"], "doctor": doctor["id"]})
    client.patch(f"/api/patients/{patient['id']}/", {"address": "Elsewhere"})
    client_of("bob").post("/api/patients/", {"name": "Of Bob"})
    client.get(f"/api/patients/{patient['id']}/")
    client.post("/api/delegations/", {"delegate": "bob", "role": "read"})
    call_command("seal_audit", stdout=io.StringIO(), stderr=io.StringIO())


def client_with_token(username: str) -> APIClient:
    token = create_token(User.objects.get(username=username), name="Export", scope="read")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token.text}")
    return client


def client_of(username: str) -> APIClient:
    client = APIClient()
    session = LoginSession.objects.start(User.objects.get(username=username), "tests", None)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {issue_token_pair(session)['access']}")
    return client


def answers(username: str) -> list[Any]:
    client = client_of(username)
    return [(path, (answer := client.get(path)).status_code, without_request_id(answer.json())) for path in PATHS]


def without_request_id(body: Any) -> Any:
    return {**body, "request_id": None} if isinstance(body, dict) else body


def count(sql: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return int(cursor.fetchone()[0])


def waits_for_a_lock(kind: str = "relation") -> bool:
    """Whether a session of this database, not of those that other tests use, waits for such a lock."""
    waits = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE datname = current_database()"
    return bool(count(f"{waits} AND NOT granted AND locktype = '{kind}'"))


def objects_left() -> int:
    """Relations and functions that no extension owns."""
    return count(
        """
        SELECT (
            SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'S')
        ) + (
            SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
            AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
        )
        """
    )


def run(command: str, *arguments: Any) -> str:
    """The command's output. Raises CommandError as the command does."""
    output = io.StringIO()
    call_command(command, *map(str, arguments), stdout=output, stderr=io.StringIO())
    return output.getvalue()


def refusal(command: str, *arguments: Any) -> str:
    """What the command says, which must fail with one sentence."""
    with pytest.raises(CommandError) as caught:
        run(command, *arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@dataclass
class Archive:
    """The content of a backup, to be written again with changes."""

    manifest: dict[str, Any]
    dump: bytes

    @classmethod
    def read(cls, path: Path) -> "Archive":
        with path.open("rb") as file:
            reader = BackupReader(file)
            dump = b"".join(reader.dump())
        with tarfile.open(path) as tar:
            member = tar.extractfile("manifest.json")
            assert member
            return cls(json.loads(member.read()), dump)

    def write(self, path: Path, key: str = KEY) -> Path:
        with path.open("wb") as file:
            writer = BackupWriter(file, Manifest(**self.manifest), 0)
            writer.write(self.dump)
            writer.finish(key)
        return path


def start(command: str, database: str, *arguments: Any, **options: Any) -> "subprocess.Popen[bytes]":
    """The command as a process of its own, on a database of the tests' server."""
    environment = {**os.environ, "DATABASE_URL": url_of(database), "AUDIT_SEAL_KEY": KEY}
    return subprocess.Popen(
        [sys.executable, "manage.py", command, *map(str, arguments)],
        cwd=settings.BASE_DIR, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip
