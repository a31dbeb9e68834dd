"""Row-level security in real deployments: a database user who is no superuser, and PgBouncer in transaction mode."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from healthcare.tests.concurrent_calls import call_concurrently
from healthcare.tests.live import LiveServer, free_port, own_database, serving, url_of
from healthcare.tests.pgbouncer import find_pgbouncer, running_pgbouncer
from healthcare.tests.superuser import admin_connection

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
needs_pgbouncer = pytest.mark.skipif(not find_pgbouncer(), reason="needs pgbouncer")


@contextmanager
def login_role() -> Iterator[str]:
    """A new database user, dropped at the end."""
    name, admin = f"owner_{uuid.uuid4().hex[:12]}", admin_connection()
    admin.cursor().execute(f"CREATE ROLE {name} LOGIN PASSWORD 'pass'")
    try:
        yield name
    finally:
        admin.cursor().execute(f"DROP ROLE {name}")
        admin.close()


def url_as(role: str, database: str) -> str:
    scheme, _, rest = url_of(database).partition("://")
    return f"{scheme}://{role}:pass@{rest.partition('@')[2]}"


def check_separation_of_callers(server: LiveServer) -> None:
    """Two callers share a few connections, and neither ever sees the other's patients. A request with an idempotency
    key that is sent many times concurrently is executed once."""
    callers = [server.register()[1]["access"] for _ in range(2)]
    for number, token in enumerate(callers):
        created = server.call("POST", "/api/patients/", {"name": f"Patient {number}"}, token)
        assert created.status == 201, created.body

    def read(turn: int) -> bool:
        own = server.call("GET", "/api/patients/", token=callers[turn % 2]).json
        nobody = server.call("GET", "/api/doctors/")
        return [row["name"] for row in own] == [f"Patient {turn % 2}"] and nobody.status == 200

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(200)))
    doctor = partial(server.call, "POST", "/api/doctors/", {"name": "Once"}, callers[0], Idempotency_Key="1")
    assert {answer.status for answer in call_concurrently(*[doctor] * 16)} <= {201, 409}
    assert doctor().headers["Idempotency-Replayed"] == "true"
    assert len(server.call("GET", "/api/doctors/").json) == 1


def test_a_database_user_without_privileges_can_migrate_after_an_administrator_ran_what_migrate_says() -> None:
    with login_role() as role, own_database(role) as database:
        environment = {**os.environ, "DATABASE_URL": url_as(role, database)}
        migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        refused = subprocess.run(migrate, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True)
        assert refused.returncode == 1
        assert f"{role} may not use the role healthcare_api" in refused.stderr
        assert "Traceback" not in refused.stderr
        statement = refused.stderr.partition("run once: ")[2].partition("; then")[0]
        documented = (Path(settings.BASE_DIR) / "docs" / "operations.md").read_text(encoding="utf-8")
        assert statement in documented.replace('"healthcare"', f'"{role}"')
        admin = admin_connection()
        admin.cursor().execute(statement)
        admin.close()
        with serving(url_as(role, database)) as server:
            check_separation_of_callers(server)


@contextmanager
def transaction_pooling(database: str, folder: Path) -> Iterator[int]:
    """PgBouncer in transaction mode with two connections to the server; yields its port."""
    port, place = free_port(), connection.get_connection_params()
    target = {name: place[name] for name in ("host", "port", "user", "password") if place.get(name)}
    target["dbname"] = database
    program = find_pgbouncer() or ""
    with running_pgbouncer(program, port, database, target, folder, pool_mode="transaction", default_pool_size=2):
        yield port


@needs_pgbouncer
def test_pgbouncer_in_transaction_mode_never_confuses_callers(tmp_path: Path) -> None:
    with own_database() as database, transaction_pooling(database, tmp_path) as port:
        user = connection.get_connection_params().get("user") or "postgres"
        with serving(f"postgres://{user}@127.0.0.1:{port}/{database}") as server:
            check_separation_of_callers(server)
