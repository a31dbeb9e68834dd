"""The servers of restore_drill.py: `manage.py serve` with its API, and a PostgreSQL of an older version."""

import http.client
import json
import os
import pwd
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2

PROJECT = Path(__file__).resolve().parent.parent
SERVER_TIMEOUT = 120  # seconds
STARTED = time.monotonic()
USER_PASSWORD = "StrongPass123"  # noqa: S105  (of temporary accounts)
SERVER_ENVIRONMENT = {
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


def check(condition: bool, text: str) -> None:
    if not condition:
        raise SystemExit(f"FAILED: {text}")


def eventually(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SERVER_TIMEOUT
    while not (value := condition()):
        check(time.monotonic() < deadline, f"{condition} never came true")
        time.sleep(0.1)
    return value


def manage(database: str, *arguments: str, fails: bool = False) -> str:
    """What the command prints on stdout, or on stderr if it must fail."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "manage.py", *arguments],
        cwd=PROJECT, env={**SERVER_ENVIRONMENT, "DATABASE_URL": database}, capture_output=True, text=True,
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
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SERVER_TIMEOUT)
        with closing(client):
            client.request(method, path, None if body is None else json.dumps(body), headers)
            answer = client.getresponse()
            text = answer.read().decode()
            is_file = answer.getheader("Content-Type", "").startswith("text/csv")
            content = text if is_file else json.loads(text or "null")
        check(expect in (None, answer.status), f"{method} {path} answered {answer.status}")
        return content if expect else (answer.status, content)

    def register(self, user: str) -> None:
        account = {"name": user.title(), "username": user, "email": f"{user}@example.org", "password": USER_PASSWORD}
        self.call("POST", "/api/auth/register/", account, expect=201)

    def log_in(self, user: str) -> None:
        login = {"username": user, "password": USER_PASSWORD}
        self.tokens[user] = self.call("POST", "/api/auth/login/", login, expect=200)


@contextmanager
def serving(database: str) -> Iterator[Api]:
    """`manage.py serve` on this database."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "manage.py", "serve", f"127.0.0.1:{port}"],
        cwd=PROJECT, env={**SERVER_ENVIRONMENT, "DATABASE_URL": database},
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
        process.wait(SERVER_TIMEOUT)


class DrillPostgres:
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
        self.process.wait(SERVER_TIMEOUT)


def find_older_programs() -> Path | None:
    """The programs of the oldest PostgreSQL from 15 to 17 that Debian's packages have installed."""
    folders = {major: Path(f"/usr/lib/postgresql/{major}/bin") for major in (15, 16, 17)}
    return next((folder for folder in folders.values() if (folder / "initdb").exists()), None)
