#!/usr/bin/env python3
"""Practises backup and restore with real servers, and recovery to a point in time. Takes two to four minutes.

    scripts/restore_drill.py

1. Writes through the API of `manage.py serve` on an embedded PostgreSQL, and backs up, plain and encrypted, while it
   goes on writing.
2. Restores into a fresh embedded PostgreSQL; and on the system's PostgreSQL, if Debian's package of an older version is
   installed, backs up and restores as a user without superuser rights, and from there into the embedded one.
3. Recovers the embedded PostgreSQL to the moment before an accident, as docs/backup.md describes.

Each time: every GET answers as before, another user sees nothing, the policies are as many as before, the seals hold,
the login sessions have ended, and a write succeeds.
"""

import http.client
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from healthcare.embedded.binaries import find_binaries  # noqa: E402
from healthcare.embedded.home import resolve_home  # noqa: E402

TIMEOUT = 120  # seconds
PASSWORD = "StrongPass123"  # noqa: S105  (of temporary accounts)
ENVIRONMENT = {
    **os.environ,
    "SECRET_KEY": secrets.token_urlsafe(60),
    "AUDIT_SEAL_KEY": secrets.token_urlsafe(40),
    "DEBUG": "False",
    "HTTPS": "False",
    "ALLOWED_HOSTS": "127.0.0.1",
    "THROTTLE_SCALE": "1000",
    "DRAIN_SECONDS": "0",
}


def step(text: str) -> None:
    print(f"-- {text} ({time.monotonic() - STARTED:.0f} s)", flush=True)


STARTED = time.monotonic()


def check(condition: bool, text: str) -> None:
    if not condition:
        raise SystemExit(f"FAILED: {text}")


def eventually(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + TIMEOUT
    while not (value := condition()):
        check(time.monotonic() < deadline, f"{condition} never came true")
        time.sleep(0.1)
    return value


def manage(database: str, *arguments: str, fails: bool = False) -> str:
    """What the command prints on stdout, or on stderr if it must fail."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "manage.py", *arguments],
        cwd=PROJECT, env={**ENVIRONMENT, "DATABASE_URL": database}, capture_output=True, text=True,
    )  # fmt: skip
    check((done.returncode != 0) == fails, f"manage.py {arguments[0]}: {done.stderr.strip()}")
    return done.stderr if fails else done.stdout


@dataclass
class Api:
    """The API of a server of `manage.py serve`. `tokens` are the pairs of the users who have logged in."""

    port: int
    tokens: dict[str, dict[str, str]] = field(default_factory=dict)

    def call(self, method: str, path: str, body: Any = None, user: str = "", expect: int | None = None) -> Any:
        headers = {"Content-Type": "application/json"}
        if user:
            headers["Authorization"] = f"Bearer {self.tokens[user]['access']}"
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        with closing(client):
            client.request(method, path, None if body is None else json.dumps(body), headers)
            answer = client.getresponse()
            content = json.loads(answer.read() or "null")
        check(expect in (None, answer.status), f"{method} {path} answered {answer.status}")
        return content if expect else (answer.status, content)

    def register(self, user: str) -> None:
        account = {"name": user.title(), "username": user, "email": f"{user}@example.org", "password": PASSWORD}
        self.call("POST", "/api/auth/register/", account, expect=201)

    def log_in(self, user: str) -> None:
        login = {"username": user, "password": PASSWORD}
        self.tokens[user] = self.call("POST", "/api/auth/login/", login, expect=200)


@contextmanager
def serving(database: str) -> Iterator[Api]:
    """`manage.py serve` on this database."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "manage.py", "serve", f"127.0.0.1:{port}"],
        cwd=PROJECT, env={**ENVIRONMENT, "DATABASE_URL": database},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    api = Api(port)

    def ready() -> bool:
        check(process.poll() is None, "manage.py serve ended")
        with suppress(OSError, http.client.HTTPException):
            return api.call("GET", "/readyz")[0] == 200  # type: ignore[no-any-return]
        return False

    try:
        eventually(ready)
        yield api
    finally:
        process.terminate()
        process.wait(TIMEOUT)


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


def answers(api: Api, paths: list[str]) -> dict[str, Any]:
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
        original.compare(answers(api, original.paths))
        api.register("carol")
        api.log_in("carol")
        check(api.call("GET", "/api/patients/", user="carol", expect=200) == [], "another user sees patients")
        api.call("POST", "/api/patients/", {"name": "After the restore"}, "carol", 201)
    print(f"   {len(original.answers)} GETs answer as before, {original.policies} policies, sessions ended")


class Writer:
    """Somebody who goes on writing in the background."""

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
        write_records(api)
        manage(source, "seal_audit")
        paths = readable_paths(api)
        original = Original(api, paths, answers(api, paths), count_policies(source))
        writer = Writer(api)
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


class Cluster:
    """A PostgreSQL of its own, without TCP, with the login `healthcare`, who is no superuser."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.folder = programs, folder
        account = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        self.options: dict[str, Any] = {"user": account.pw_uid, "group": account.pw_gid} if account else {}
        folder.mkdir()
        if account:
            os.chown(folder, account.pw_uid, account.pw_gid)
        self.run(
            "initdb", "--pgdata", f"{folder}/data", "--username", "postgres", "--auth", "trust", "--encoding", "UTF8"
        )
        self.process = subprocess.Popen(  # noqa: S603
            [str(programs / "postgres"), "-D", f"{folder}/data", "-c", "listen_addresses=", "-c",
             f"unix_socket_directories={folder}"], cwd="/", stderr=subprocess.DEVNULL, **self.options,
        )  # fmt: skip
        eventually(lambda: (folder / ".s.PGSQL.5432").exists())
        eventually(self.accepts)
        self.execute("postgres", "CREATE ROLE healthcare LOGIN")

    def run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), *arguments]
        subprocess.run(command, cwd="/", check=True, stdout=subprocess.DEVNULL, **self.options)  # noqa: S603

    def accepts(self) -> bool:
        with suppress(psycopg2.OperationalError):
            self.execute("postgres", "SELECT 1")
            return True
        return False

    def execute(self, database: str, sql: str) -> None:
        session = psycopg2.connect(host=str(self.folder), dbname=database, user="postgres")
        with closing(session):
            session.autocommit = True
            session.cursor().execute(sql)

    def url(self, database: str) -> str:
        return f"postgres://healthcare@/{database}?host={self.folder}&port=5432"

    def create(self, database: str) -> str:
        self.execute("postgres", f"CREATE DATABASE {database} OWNER healthcare")
        return self.url(database)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(TIMEOUT)


def find_older_programs() -> Path | None:
    """The programs of the oldest PostgreSQL from 15 to 17 that Debian's packages have installed."""
    folders = {major: Path(f"/usr/lib/postgresql/{major}/bin") for major in (15, 16, 17)}
    return next((folder for folder in folders.values() if (folder / "initdb").exists()), None)


def restore_as_an_ordinary_user(work: Path) -> None:
    programs = find_older_programs()
    if programs is None:
        step("Skipped: no older PostgreSQL is installed in /usr/lib/postgresql")
        return
    step(f"The same on PostgreSQL {programs.parent.name}, as a user without superuser rights")
    cluster = Cluster(programs, work / "older")
    try:
        cluster.execute("postgres", "CREATE ROLE healthcare_api NOLOGIN; GRANT healthcare_api TO healthcare")
        source = cluster.create("source")
        with serving(source) as api:
            write_records(api)
            manage(source, "seal_audit")
            paths = readable_paths(api)
            original = Original(api, paths, answers(api, paths), count_policies(source))
            manage(source, "backup", str(work / "of-older"))
        step("Restoring it beside, where the role exists")
        target = cluster.create("target")
        manage(target, "restore", str(work / "of-older"))
        check_restored(target, original)
        step("Restoring it where the role is missing and the user may not create it")
        for database in ("source", "target"):
            cluster.execute("postgres", f"DROP DATABASE {database} WITH (FORCE)")
        cluster.execute("postgres", "DROP ROLE healthcare_api")
        target = cluster.create("again")
        refused = manage(target, "restore", str(work / "of-older"), fails=True)
        check(refused.count("run once: ") == 1, f"no advice in: {refused}")
        cluster.execute("postgres", refused.partition("run once: ")[2].partition("; then")[0])
        manage(target, "restore", str(work / "of-older"))
        check_restored(target, original)
        if (work / "plain").exists():
            step("Refusing a backup of PostgreSQL 18 there")
            refused = manage(cluster.create("older"), "restore", str(work / "plain"), fails=True)
            check("restore it into version 18 or newer" in refused, refused)
    finally:
        cluster.stop()
    step("Restoring it into the embedded PostgreSQL 18")
    manage(f"embedded://{work}/of-older-in-18", "restore", str(work / "of-older"))
    check_restored(f"embedded://{work}/of-older-in-18", original)


def recover_to_a_point_in_time(work: Path) -> None:
    step("Archiving the WAL of an embedded PostgreSQL, and taking a base backup")
    home = resolve_home(work / "archived")
    database = f"embedded://{work}/archived"
    archive = work / "wal"
    base = work / "base"
    programs = find_binaries().folder
    manage(database, "migrate", "--verbosity", "0")

    def execute(sql: str) -> Any:
        session = psycopg2.connect(host=str(home.socket_folder), dbname="healthcare", user="postgres")
        with closing(session), session.cursor() as cursor:
            session.autocommit = True
            cursor.execute(sql)
            return next(iter(cursor.fetchone() or [])) if cursor.description else None

    archive.mkdir(mode=0o700)
    if home.account:
        home.account.take_ownership(archive)
    with serving(database):
        execute("ALTER SYSTEM SET archive_mode = on")
        execute(f"ALTER SYSTEM SET archive_command = 'test ! -f {archive}/%f && cp %p {archive}/%f'")
    with serving(database) as api:  # the server has restarted
        check(execute("SHOW archive_mode") == "on", "the WAL is not archived")
        connection = ["--host", str(home.socket_folder), "--username", "postgres"]
        command = [str(programs / "pg_basebackup"), *connection, "--pgdata", str(base), "--checkpoint=fast"]
        subprocess.run(command, cwd="/", check=True)  # noqa: S603
        subprocess.run([str(programs / "pg_verifybackup"), str(base)], cwd="/", check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        write_records(api)
        manage(database, "seal_audit")
        paths = readable_paths(api)
        original = Original(api, paths, answers(api, paths), count_policies(database))
        moment = str(execute("SELECT clock_timestamp()"))
        step(f"The accident: every patient is changed after {moment}")
        execute("UPDATE patients_patient SET name = 'Overwritten'")
        execute("SELECT pg_switch_wal()")
        segment = execute("SELECT pg_walfile_name(pg_current_wal_lsn() - 1)")
        eventually(lambda: (archive / segment).exists() or execute("SELECT pg_switch_wal()") is None)
    step("Recovering to that moment in a new folder")
    recovered = resolve_home(work / "recovered")
    recovered.create()
    shutil.copytree(base, recovered.data)
    with (recovered.data / "postgresql.auto.conf").open("a") as settings:
        settings.write(
            f"archive_mode = off\nrestore_command = 'cp {archive}/%f %p'\nrecovery_target_time = '{moment}'\n"
            "recovery_target_action = 'promote'\n"
        )
    (recovered.data / "recovery.signal").touch()
    if recovered.account:
        for path in (recovered.data, *recovered.data.rglob("*")):
            recovered.account.take_ownership(path)
    target = f"embedded://{work}/recovered"
    with serving(target) as api:
        api.tokens = original.api.tokens
        original.compare(answers(api, original.paths))
    check(count_policies(target) == original.policies, "policies are missing")
    check("sealed rows are unaltered" in manage(target, "verify_audit"), "the seals do not hold")
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
