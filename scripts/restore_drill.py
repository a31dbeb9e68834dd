#!/usr/bin/env python3
"""Practises backup and restore with real servers, and recovery to a point in time. Takes two to four minutes.

    .venv/bin/python scripts/restore_drill.py

1. Writes through the API of `manage.py serve` on an embedded PostgreSQL, and backs up, plain and encrypted, while it
   goes on writing.
2. Restores into a fresh embedded PostgreSQL; and on the system's PostgreSQL, if Debian's package of an older version is
   installed, backs up and restores as a user without superuser rights, and from there into the embedded one.
3. Recovers the embedded PostgreSQL to the moment before an accident, as docs/backup.md describes.

Each time: every GET answers as before, another user sees nothing, the policies are as many as before, the seals hold,
the login sessions have ended, and a write succeeds.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from drill_servers import PROJECT, Api, DrillPostgres, check, eventually, find_older_programs, manage, serving, step

sys.path.insert(0, str(PROJECT))

from healthcare.embedded.binaries import find_binaries  # noqa: E402
from healthcare.embedded.home import Home, resolve_home  # noqa: E402


def write_records(api: Api) -> None:
    for user in ("alice", "bob"):
        api.register(user)
        api.log_in(user)
        patients = [
            api.call("POST", "/api/patients/", {"name": f"Patient {n} of {user}", "age": 30 + n}, user, 201)["id"]
            for n in range(5)
        ]
        doctor = api.call("POST", "/api/doctors/", {"name": f"Grace {user}"}, user, 201)["id"]
        for patient in patients[:3]:
            api.call("POST", "/api/mappings/", {"patient": patient, "doctor": doctor}, user, 201)
        api.call("PATCH", f"/api/patients/{patients[0]}/", {"address": "Kochi"}, user, 200)


def readable_paths(api: Api) -> list[str]:
    """Every path of the API's description that answers a GET with the same content whenever it is read."""
    paths = api.call("GET", "/api/schema/?format=json", expect=200)["paths"]
    changing = ("/api/auth/", "/api/schema/", "/accesses/", "/access-log/", "/healthz", "/readyz")
    found = [path for path, operations in paths.items() if "get" in operations]
    return sorted(path for path in found if not any(part in path for part in changing))


def collect_answers(api: Api, paths: list[str]) -> dict[str, Any]:
    """What each user is answered, for the first ids of every path."""
    found = {}
    for user in ("alice", "bob", ""):
        for path in paths:
            numbers = range(1, 8) if "{" in path else [0]
            for number in numbers:
                url = re.sub(r"\{\w+\}", str(number), path)
                status, content = api.call("GET", url, user=user)
                if isinstance(content, dict):
                    content.pop("request_id", None)
                found[f"{user} {url}"] = (status, content)
    return found


def count_policies(database: str) -> int:
    script = "from django.db import connection as c; k = c.cursor(); k.execute('SELECT count(*) FROM pg_policies'); "
    return int(manage(database, "shell", "--no-imports", "--command", script + "print(k.fetchone()[0])"))


@dataclass
class Original:
    """What a restored database is compared with."""

    api: Api
    paths: list[str]
    answers: dict[str, Any]
    policies: int

    def compare(self, found: dict[str, Any]) -> None:
        for key, before in self.answers.items():
            check(found.get(key) == before, f"{key} answered {before}, and now {found.get(key)}")


def write_original(database: str, api: Api) -> Original:
    write_records(api)
    manage(database, "seal_audit")
    paths = readable_paths(api)
    return Original(api, paths, collect_answers(api, paths), count_policies(database))


def check_restored(database: str, original: Original) -> None:
    check(count_policies(database) == original.policies > 15, "policies are missing")
    check("sealed rows are unaltered" in manage(database, "verify_audit"), "the seals do not hold")
    with serving(database) as api:
        api.tokens = dict(original.api.tokens)
        for user in ("alice", "bob"):
            check(api.call("GET", "/api/patients/", user=user)[0] == 401, "a login session did not end")
            refresh = {"refresh": original.api.tokens[user]["refresh"]}
            check(api.call("POST", "/api/auth/refresh/", refresh)[0] == 401, "a refresh token still works")
            api.log_in(user)
        original.compare(collect_answers(api, original.paths))
        api.register("carol")
        api.log_in("carol")
        check(api.call("GET", "/api/patients/", user="carol", expect=200) == [], "another user sees patients")
        api.call("POST", "/api/patients/", {"name": "After the restore"}, "carol", 201)
    print(f"   {len(original.answers)} GETs answer as before, {original.policies} policies, sessions ended")


class ContinuousWriter:
    """A user who goes on writing in a thread."""

    def __init__(self, api: Api) -> None:
        self.api, self.stopped, self.written = api, threading.Event(), 0
        api.register("dave")
        api.log_in("dave")
        self.thread = threading.Thread(target=self.write)
        self.thread.start()

    def write(self) -> None:
        while not self.stopped.is_set():
            self.api.call("POST", "/api/patients/", {"name": f"Written meanwhile {self.written}"}, "dave", 201)
            self.written += 1

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join()


def back_up_and_restore(work: Path) -> None:
    step("Writing to an embedded PostgreSQL, and backing up while writes go on")
    source = f"embedded://{work}/source"
    key = work / "key"
    from pyrage import x25519

    identity = x25519.Identity.generate()
    key.write_text(str(identity))
    with serving(source) as api:
        original = write_original(source, api)
        writer = ContinuousWriter(api)
        eventually(lambda: writer.written > 5)
        before = writer.written
        print("   " + manage(source, "backup", str(work / "plain")).strip())
        print(
            "   " + manage(source, "backup", str(work / "encrypted"), "--encrypt-to", str(identity.to_public())).strip()
        )
        check(writer.written > before, "writes did not go on during the backups")
        writer.stop()
        manage(source, "backup", str(work / "plain"), fails=True)
    for name, options in {"plain": [], "encrypted": ["--identity", str(key)]}.items():
        step(f"Restoring the {name} backup into a fresh embedded PostgreSQL")
        target = f"embedded://{work}/of-{name}"
        print("   " + manage(target, "restore", str(work / name), *options).strip().replace("\n", "\n   "))
        check_restored(target, original)
        refused = manage(target, "restore", str(work / name), *options, fails=True)
        check("is not empty" in refused, "a database with tables was not refused")


def restore_as_an_ordinary_user(work: Path) -> None:
    programs = find_older_programs()
    if programs is None:
        step("Skipped: no older PostgreSQL is installed in /usr/lib/postgresql")
        return
    step(f"The same on PostgreSQL {programs.parent.name}, as a user without superuser rights")
    postgres = DrillPostgres(programs, work / "older")
    try:
        postgres.execute("postgres", "CREATE ROLE healthcare_api NOLOGIN; GRANT healthcare_api TO healthcare")
        source = postgres.create("source")
        with serving(source) as api:
            original = write_original(source, api)
            manage(source, "backup", str(work / "of-older"))
        step("Restoring it beside, where the role exists")
        target = postgres.create("target")
        manage(target, "restore", str(work / "of-older"))
        check_restored(target, original)
        step("Restoring it where the role is missing and the user may not create it")
        for database in ("source", "target"):
            postgres.execute("postgres", f"DROP DATABASE {database} WITH (FORCE)")
        postgres.execute("postgres", "DROP ROLE healthcare_api")
        target = postgres.create("again")
        refused = manage(target, "restore", str(work / "of-older"), fails=True)
        check(refused.count("run once: ") == 1, f"no advice in: {refused}")
        postgres.execute("postgres", refused.partition("run once: ")[2].partition("; then")[0])
        manage(target, "restore", str(work / "of-older"))
        check_restored(target, original)
        if (work / "plain").exists():
            step("Refusing a backup of PostgreSQL 18 there")
            refused = manage(postgres.create("older"), "restore", str(work / "plain"), fails=True)
            check("restore it into version 18 or newer" in refused, refused)
    finally:
        postgres.stop()
    step("Restoring it into the embedded PostgreSQL 18")
    manage(f"embedded://{work}/of-older-in-18", "restore", str(work / "of-older"))
    check_restored(f"embedded://{work}/of-older-in-18", original)


class ArchivedDatabase:
    """An embedded PostgreSQL whose WAL is archived, with its archive and base backup in folders of their own."""

    def __init__(self, work: Path) -> None:
        self.url, self.home = f"embedded://{work}/archived", resolve_home(work / "archived")
        self.archive, self.base = work / "wal", work / "base"
        manage(self.url, "migrate", "--verbosity", "0")
        self.archive.mkdir(mode=0o700)
        if self.home.account:
            self.home.account.take_ownership(self.archive)
        with serving(self.url):
            self.execute("ALTER SYSTEM SET archive_mode = on")
            self.execute(f"ALTER SYSTEM SET archive_command = 'test ! -f {self.archive}/%f && cp %p {self.archive}/%f'")

    def execute(self, sql: str) -> Any:
        """The first value that the statement returns, if it returns rows."""
        session = psycopg2.connect(host=str(self.home.socket_folder), dbname="healthcare", user="postgres")
        with closing(session), session.cursor() as cursor:
            session.autocommit = True
            cursor.execute(sql)
            return next(iter(cursor.fetchone() or [])) if cursor.description else None

    def take_base_backup(self) -> None:
        programs = find_binaries().folder
        connection = ["--host", str(self.home.socket_folder), "--username", "postgres"]
        command = [str(programs / "pg_basebackup"), *connection, "--pgdata", str(self.base), "--checkpoint=fast"]
        subprocess.run(command, cwd="/", check=True)  # noqa: S603
        command = [str(programs / "pg_verifybackup"), str(self.base)]
        subprocess.run(command, cwd="/", check=True, stdout=subprocess.DEVNULL)  # noqa: S603

    def archive_all(self) -> None:
        """Wait until the archive has every change committed so far."""
        self.execute("SELECT pg_switch_wal()")
        segment = self.execute("SELECT pg_walfile_name(pg_current_wal_lsn() - 1)")
        eventually(lambda: (self.archive / segment).exists() or self.execute("SELECT pg_switch_wal()") is None)

    def recover(self, moment: str, home: Home) -> None:
        """Make `home` the database as it was at that moment, from its next start on."""
        home.create()
        shutil.copytree(self.base, home.data)
        with (home.data / "postgresql.auto.conf").open("a") as settings:
            settings.write(
                f"archive_mode = off\nrestore_command = 'cp {self.archive}/%f %p'\n"
                f"recovery_target_time = '{moment}'\nrecovery_target_action = 'promote'\n"
            )
        (home.data / "recovery.signal").touch()
        if home.account:
            for path in (home.data, *home.data.rglob("*")):
                home.account.take_ownership(path)


def recover_to_a_point_in_time(work: Path) -> None:
    step("Archiving the WAL of an embedded PostgreSQL, and taking a base backup")
    database = ArchivedDatabase(work)
    with serving(database.url) as api:  # PostgreSQL has restarted, so that the setting holds
        check(database.execute("SHOW archive_mode") == "on", "the WAL is not archived")
        database.take_base_backup()
        original = write_original(database.url, api)
        moment = str(database.execute("SELECT clock_timestamp()"))
        step(f"The accident: every patient is changed after {moment}")
        database.execute("UPDATE patients_patient SET name = 'Overwritten'")
        database.archive_all()
    step("Recovering to that moment in a new folder")
    database.recover(moment, resolve_home(work / "recovered"))
    recovered = f"embedded://{work}/recovered"
    with serving(recovered) as api:
        api.tokens = original.api.tokens
        original.compare(collect_answers(api, original.paths))
    check(count_policies(recovered) == original.policies, "policies are missing")
    check("sealed rows are unaltered" in manage(recovered, "verify_audit"), "the seals do not hold")
    print(f"   {len(original.answers)} GETs answer as at that moment")


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is stopped
    work = Path(tempfile.mkdtemp(prefix="restore-drill-"))
    work.chmod(0o711)  # for PostgreSQL's account
    try:
        for part in (back_up_and_restore, restore_as_an_ordinary_user, recover_to_a_point_in_time):
            if not os.environ.get("ONLY") or os.environ["ONLY"] in part.__name__:
                part(work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    step("All restored")


if __name__ == "__main__":
    main()
