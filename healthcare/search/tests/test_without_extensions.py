"""A database user who may not create extensions: migrating goes on, names are found by their beginnings, and an
administrator can still turn similarity on."""

import os
import subprocess
import sys

import psycopg2
import pytest
from django.conf import settings

from healthcare.rls import ROLE
from healthcare.rls.tests.test_deployments import login_role, url_as
from healthcare.tests.live import LiveServer, own_database, serving, url_of
from healthcare.tests.superuser import admin_connection

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

CREATE = "CREATE EXTENSION pg_trgm; CREATE EXTENSION btree_gin; CREATE EXTENSION unaccent;"


def manage(url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "DATABASE_URL": url}
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True)


def as_administrator(database: str, statements: str) -> None:
    with psycopg2.connect(url_of(database)) as administrator:
        administrator.cursor().execute(statements)
    administrator.close()


def found(server: LiveServer, token: str, text: str) -> list[str]:
    answer = server.call("GET", f"/api/patients/?search={text}", token=token)
    assert answer.status == 200, answer.body
    return sorted(row["name"] for row in answer.json)


def test_search_goes_by_beginnings_until_an_administrator_has_created_the_extensions() -> None:
    with login_role() as role, own_database() as database:
        admin = admin_connection()
        admin.cursor().execute(f"GRANT {ROLE} TO {role}")
        admin.close()
        # It may make tables, and nothing in the database besides: CREATE on the database is what extensions need.
        as_administrator(database, f"GRANT CREATE, USAGE ON SCHEMA public TO {role} WITH GRANT OPTION")
        url = url_as(role, database)
        migrated = manage(url, "migrate", "--verbosity", "0")
        assert (migrated.returncode, "Traceback" in migrated.stderr) == (0, False), migrated.stderr
        assert f"an administrator of this database has run: {CREATE}" in migrated.stderr
        assert "manage.py rebuild_search" in migrated.stderr
        revoke = migrated.stderr.partition("Have its owner run: ")[2].splitlines()[0]
        assert revoke.startswith(f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC; ")
        as_administrator(database, revoke)

        with serving(url) as server:
            token = server.register()[1]["access"]
            for name in ("John Smith", "Łukasz Żółć", "Jane Doe"):
                assert server.call("POST", "/api/patients/", {"name": name}, token).status == 201
            assert found(server, token, "smi%20joh") == ["John Smith"]
            assert found(server, token, "lukasz%20zolc") == ["Łukasz Żółć"]
            assert found(server, token, "jon%20smyth") == []

            as_administrator(database, CREATE)
            rebuilt = manage(url, "rebuild_search")
            assert rebuilt.returncode == 0, rebuilt.stderr
            assert rebuilt.stdout.splitlines()[-1] == "Search finds names by similarity."
            assert found(server, token, "jon%20smyth") == ["John Smith"]
            assert found(server, token, "zolc") == ["Łukasz Żółć"]
        assert manage(url, "migrate", "--verbosity", "0").stderr == ""
