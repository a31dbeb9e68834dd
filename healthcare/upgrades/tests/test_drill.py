"""An upgrade under load: old and new version side by side on one database, `migrate` killed and started twice.

The long run has 200,000 patients and takes two minutes. It also fails if a session of a server waits for a lock for a
second. Clients may wait longer on a busy machine, which lacks processor time; that figure is printed.

    UPGRADE_PATIENTS=200000 python3 manage.py test -n 0 healthcare/upgrades/tests/test_drill.py
"""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE
from typing import Any

import psycopg2
import pytest
from django.db import connection

from healthcare.embedded.tests.harness import eventually
from healthcare.tests.live import TIMEOUT, LiveServer, own_database, serving, url_of
from healthcare.tests.migrated import DATABASE, ensure_template_database
from healthcare.tests.project_copy import ROOT, ProjectCopy
from healthcare.upgrades.tests.sample_release import write_sample_release

pytestmark = [pytest.mark.long, pytest.mark.slow]

PATIENTS = int(os.environ.get("UPGRADE_PATIENTS", "3000"))
LONG_RUN = PATIENTS >= 100_000
SETTINGS = "healthcare.settings"  # with the timeouts of production
PAUSE = 0.02  # seconds between two requests of a client
LONGEST_LOCK_WAIT = 1.0  # seconds that a read or a write may wait for a lock
# Without triggers, which is faster; most patients belong to another owner.
FILL = """
SET session_replication_role = replica;
INSERT INTO patients_patient (name, gender, identifier, identifiers, phone, alternate_phone, email, address, language,
    contacts, medical_history, version, created_at, updated_at, created_by_id)
    SELECT 'Patient ' || number, 'U', '', '[]', '', '', '', 'Street ' || number, '', '[]', '', 1, now(), now(),
        CASE WHEN number % 100 = 0 THEN {user} ELSE {other} END
    FROM generate_series(1, {patients}) number;
SET session_replication_role = origin;
ANALYZE patients_patient;
"""
LOCK_WAITS = """
SELECT coalesce(extract(epoch FROM max(clock_timestamp() - waitstart)), 0)::float
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE NOT granted AND datname = current_database() AND application_name <> 'migrate'
"""


@dataclass
class Load:
    """Clients that read and write over and over, and what they were answered."""

    token: str
    patients: list[int]
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)
    created: list[int] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def calls(self, number: int) -> Iterator[tuple[str, str, Any]]:
        """Requests of a client, each with a method, a path and a body."""
        while True:
            for each in self.patients[number::4]:
                yield "GET", f"/api/patients/{each}/", None
                yield "GET", "/api/patients/?limit=20", None
                yield "POST", "/api/patients/", {"name": f"New {each}"}
                yield "PATCH", f"/api/patients/{each}/", {"phone": str(each)}

    def run(self, server: LiveServer, number: int) -> None:
        client = http.client.HTTPConnection(server.host, server.port, timeout=TIMEOUT)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        for method, path, body in self.calls(number):
            if self.ended.is_set():
                break
            started = time.monotonic()
            client.request(method, path, body=json.dumps(body) if body else None, headers=headers)
            response = client.getresponse()
            answer = response.read()
            self.seconds["read" if method == "GET" else "write"].append(time.monotonic() - started)
            if response.status not in {200, 201}:
                self.failures.append(f"{method} {response.status} {answer[:300]!r}")
            elif method == "POST":
                self.created.append(json.loads(answer)["id"])
            time.sleep(PAUSE)
        client.close()

    def start(self, server: LiveServer) -> list[threading.Thread]:
        threads = [threading.Thread(target=self.run, args=(server, number)) for number in range(2)]
        for thread in threads:
            thread.start()
        return threads

    def count(self) -> int:
        return sum(map(len, self.seconds.values()))


class LockMonitor(threading.Thread):
    """Watches how long sessions of the servers wait for locks."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.longest, self.ended = url, 0.0, threading.Event()

    def run(self) -> None:
        with closing(psycopg2.connect(self.url)) as session, session.cursor() as cursor:
            session.autocommit = True
            while not self.ended.wait(0.01):
                cursor.execute(LOCK_WAITS)
                self.longest = max(self.longest, *cursor.fetchall()[0])


@dataclass
class Upgrade:
    """The database, its old server and the folder of the new version."""

    url: str
    old: LiveServer
    project: ProjectCopy
    column_migration: str

    def query(self, statement: str) -> Any:
        with closing(psycopg2.connect(self.url)) as session, session.cursor() as cursor:
            session.autocommit = True
            cursor.execute(statement)
            return cursor.fetchall()[0][0] if cursor.description else None

    def start_migrate(self, *target: str, folder: Path | None = None) -> "subprocess.Popen[str]":
        environment = {**os.environ, "DATABASE_URL": self.url, "PGAPPNAME": "migrate"}
        command = [sys.executable, "-m", "django", "migrate", *target]
        return subprocess.Popen(
            command, cwd=folder or self.project.root, env=environment, stdout=PIPE, stderr=PIPE, text=True
        )

    def is_ready(self, server: LiveServer) -> bool:
        return server.call("GET", "/readyz").status == 200


@contextmanager
def prepared_upgrade(folder: Path) -> Iterator[Upgrade]:
    ensure_template_database()
    with own_database(template=DATABASE) as name:
        project = ProjectCopy(folder, name)
        column = write_sample_release(project)
        url = url_of(name)
        with serving(url, migrated=True, DJANGO_SETTINGS_MODULE=SETTINGS) as old:
            yield Upgrade(url, old, project, column)


def kill_while_it_fills_rows(upgrade: Upgrade, last: int) -> None:
    """Kill `migrate` while it waits for the last row, which another transaction has locked."""
    column = upgrade.start_migrate("patients", upgrade.column_migration)
    output, errors = column.communicate(timeout=900)
    assert column.returncode == 0, output + errors
    with closing(psycopg2.connect(upgrade.url)) as session, session.cursor() as cursor:
        cursor.execute("SELECT FROM patients_patient WHERE id = %s FOR UPDATE", [last])
        kill_when_waiting(upgrade, "SELECT FROM patients_patient")
    assert upgrade.query("SELECT count(*) FROM patients_patient WHERE chart_number <> ''") > 0
    assert upgrade.query("SELECT count(*) FROM patients_patient WHERE chart_number = ''") > 0


def kill_while_it_builds_the_index(upgrade: Upgrade) -> None:
    """Kill `migrate` while CREATE INDEX CONCURRENTLY waits for a transaction that writes to the table."""
    with closing(psycopg2.connect(upgrade.url)) as session, session.cursor() as cursor:
        cursor.execute("LOCK TABLE patients_patient IN ROW EXCLUSIVE MODE")
        kill_when_waiting(upgrade, "CREATE INDEX CONCURRENTLY")
        assert upgrade.query("SELECT count(*) FROM pg_class WHERE relname = 'patient_by_chart'") == 1
    assert upgrade.query("SELECT count(*) FROM patients_patient WHERE chart_number = ''") == 0


def kill_when_waiting(upgrade: Upgrade, statement: str) -> None:
    migrate = upgrade.start_migrate()
    waiting = f"""
        SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE NOT granted AND application_name = 'migrate' AND query LIKE '{statement}%'
    """  # noqa: S608
    eventually(lambda: migrate.poll() is not None or upgrade.query(waiting), timeout=900)
    migrate.kill()
    output, errors = migrate.communicate()
    assert "OK" not in output, output + errors


def test_an_upgrade_under_load_fails_no_request_and_lets_none_wait(
    tmp_path: Path, django_db_setup: None, django_db_blocker: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with django_db_blocker.unblock(), ExitStack() as stack:
        connection.ensure_connection()
        upgrade = stack.enter_context(prepared_upgrade(tmp_path))
        user, tokens = upgrade.old.register("ada")
        other, _ = upgrade.old.register("bob")
        upgrade.query(FILL.format(user=user["id"], other=other["id"], patients=PATIENTS))
        last = upgrade.query("SELECT max(id) FROM patients_patient")
        listed = upgrade.old.call("GET", "/api/patients/?limit=400", token=tokens["access"]).json
        load = Load(tokens["access"], [record["id"] for record in listed if record["id"] != last])
        monitor = LockMonitor(upgrade.url)
        monitor.start()
        folder = str(upgrade.project.root)
        new = stack.enter_context(serving(upgrade.url, migrated=True, folder=folder, DJANGO_SETTINGS_MODULE=SETTINGS))
        assert upgrade.is_ready(upgrade.old)
        assert not upgrade.is_ready(new)
        threads = load.start(upgrade.old)
        try:
            eventually(lambda: load.count() > 50)
            started = time.monotonic()
            kill_while_it_fills_rows(upgrade, last)
            kill_while_it_builds_the_index(upgrade)
            hosts = [upgrade.start_migrate() for _ in range(2)]
            outputs = [host.communicate(timeout=900) for host in hosts]
            seconds = time.monotonic() - started
            assert [host.returncode for host in hosts] == [0, 0], outputs
            eventually(lambda: upgrade.is_ready(new))
            assert upgrade.is_ready(upgrade.old)
            # A host with the old version starts again meanwhile.
            late = upgrade.start_migrate(folder=ROOT)
            output, errors = late.communicate(timeout=900)
            assert late.returncode == 0, output + errors
            assert upgrade.is_ready(new)
            during = load.count()
            threads += load.start(new)
            eventually(lambda: load.count() > during + 200)
        finally:
            load.ended.set()
            monitor.ended.set()
            for thread in [*threads, monitor]:
                thread.join()
        longest = {kind: max(seconds) for kind, seconds in load.seconds.items()}
        figures = (
            f"{PATIENTS:,} patients: migrated in {seconds:.1f} s; {load.count()} requests, {len(load.failures)} failed;"
            f" longest read {longest['read']:.2f} s, write {longest['write']:.2f} s, lock {monitor.longest:.2f} s"
        )  # fmt: skip
        with capsys.disabled():
            print(f"\n{figures}")
        assert load.failures == []
        assert sorted("No migrations to apply." in output for output, _ in outputs) == [False, True]
        assert upgrade.query("SELECT count(*) FROM patients_patient WHERE chart_number <> 'C' || id") == 0
        assert upgrade.query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'patient_by_chart'::regclass")
        untouched = "SELECT count(*) FROM patients_patient WHERE id <= {} AND version <> 1 AND phone = ''"
        assert upgrade.query(untouched.format(last)) == 0
        record = new.call("GET", f"/api/patients/{load.created[0]}/", token=tokens["access"]).json
        assert record["chart_number"] == f"C{record['id']}"
        changed = new.call("PATCH", f"/api/patients/{record['id']}/", {"chart_number": "7"}, tokens["access"])
        assert changed.json["chart_number"] == "7"
        if LONG_RUN:
            assert monitor.longest < LONGEST_LOCK_WAIT
