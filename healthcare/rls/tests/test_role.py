"""A server that lost the role of API requests, or whose role may more than it should, is put right by `migrate`."""

import os
import subprocess
import sys
from collections.abc import Iterator

import psycopg2
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from healthcare.embedded.home import Home
from healthcare.rls.access import find_access_gaps
from healthcare.tests.postgres import SeparatePostgres, separate_postgres

LOST = "DROP OWNED BY healthcare_api; DROP ROLE healthcare_api"
NOT_EMBEDDED = connection.settings_dict.get("EMBEDDED_HOME") is None
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture(scope="module")
def postgres(migrated_home: Home) -> Iterator[SeparatePostgres]:
    with separate_postgres(migrated_home) as started:
        yield started


def execute_as_superuser(postgres: SeparatePostgres, sql: str) -> None:
    session = psycopg2.connect(postgres.url)
    session.autocommit = True
    session.cursor().execute(sql)
    session.close()


@pytest.fixture
def embedded(postgres: SeparatePostgres) -> Iterator[SeparatePostgres]:
    """Connects the default connection to the separate server as to an embedded one."""
    connection.close()
    original = {name: connection.settings_dict[name] for name in ("NAME", "EMBEDDED_HOME")}
    connection.settings_dict.update({"NAME": "healthcare", "EMBEDDED_HOME": str(postgres.home.folder)})
    try:
        yield postgres
    finally:
        connection.close()
        connection.settings_dict.update(original)


@pytest.mark.skipif(NOT_EMBEDDED, reason="needs the embedded server")
@pytest.mark.parametrize(
    ("damage", "role_gaps"),
    [
        (LOST, {"healthcare_api is missing"}),
        (
            "ALTER ROLE healthcare_api BYPASSRLS LOGIN CREATEDB; GRANT pg_read_all_data TO healthcare_api",
            {
                "healthcare_api is BYPASSRLS",
                "healthcare_api is LOGIN",
                "healthcare_api is CREATEDB",
                "healthcare_api is a member of pg_read_all_data",
            },
        ),
        ("ALTER ROLE healthcare_api SUPERUSER", {"healthcare_api is SUPERUSER"}),
        ("GRANT healthcare_api TO healthcare WITH SET FALSE", {"healthcare may not use healthcare_api"}),
    ],
)
def test_the_embedded_server_gets_its_role_back(embedded: SeparatePostgres, damage: str, role_gaps: set[str]) -> None:
    assert find_access_gaps(connection) == []
    connection.close()
    execute_as_superuser(embedded, damage)
    found = find_access_gaps(connection)
    assert {gap.name for gap in found if gap.check == "role"} >= role_gaps
    assert {gap.check for gap in found} >= ({"role", "policies", "grants"} if damage == LOST else {"role"})
    call_command("migrate", verbosity=0)
    assert find_access_gaps(connection) == []


def test_a_database_user_who_may_not_correct_the_role_is_told_what_an_administrator_runs(
    postgres: SeparatePostgres,
) -> None:
    execute_as_superuser(postgres, f"{LOST}; ALTER ROLE healthcare NOCREATEROLE")
    url = postgres.url.replace("//postgres@", "//healthcare@")
    command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    environment = {**os.environ, "DATABASE_URL": url}
    both = "ALTER ROLE healthcare_api BYPASSRLS; REVOKE USAGE ON SCHEMA public FROM healthcare_api, PUBLIC"
    for damage in ("", "ALTER ROLE healthcare_api BYPASSRLS", both):
        if damage:
            execute_as_superuser(postgres, damage)
        refused = subprocess.run(command, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True)
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1), refused.stderr
        assert "Have an administrator of the database run once: " in refused.stderr
        execute_as_superuser(postgres, refused.stderr.partition("run once: ")[2].partition("; then")[0])
        subprocess.run(command, cwd=settings.BASE_DIR, env=environment, check=True)
