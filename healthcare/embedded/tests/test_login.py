"""The application's login of the embedded server is no superuser, in a new data directory and in one of an earlier
version."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import pytest
from psycopg2.errors import InsufficientPrivilege

from healthcare.embedded.cluster import SUPERUSER
from healthcare.embedded.home import POSTGRES_PORT, Home, resolve_home
from healthcare.embedded.login import LOGIN
from healthcare.embedded.tests.harness import ServerUnderTest, copy_data, stop_everything
from healthcare.embedded.tests.test_start import run_manage
from healthcare.tests.memory_folder import temporary_folder

pytestmark = pytest.mark.slow

WHO = "query SELECT current_user, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
OWNERS = """query SELECT string_agg(DISTINCT pg_get_userbyid(owner), ',') FROM (
    SELECT datdba FROM pg_database WHERE datname = current_database()
    UNION SELECT relowner FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION SELECT proowner FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND probin IS NULL
    UNION SELECT typowner FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype = 'c') owners(owner)"""


@contextmanager
def session_of(server: ServerUnderTest, user: str) -> Iterator[Any]:
    session = psycopg2.connect(host=str(server.home / "socket"), port=POSTGRES_PORT, user=user, dbname="healthcare")
    session.autocommit = True
    try:
        yield session.cursor()
    finally:
        session.close()


@pytest.fixture
def embedded_server(initialized_server: ServerUnderTest) -> ServerUnderTest:
    return initialized_server


def test_the_login_is_no_superuser_and_owns_the_database(embedded_server: ServerUnderTest) -> None:
    program = embedded_server.program()
    assert program.request(WHO) == f"{LOGIN} False"
    assert program.request(OWNERS.replace("\n", " ")) == LOGIN


@pytest.fixture(scope="module")
def running(initialized_home: Home) -> Iterator[ServerUnderTest]:
    """One running server for the attempts, which change nothing."""
    with temporary_folder() as folder:
        server = ServerUnderTest(folder / "home")
        copy_data(initialized_home, resolve_home(server.home))
        server.program().connect()
        yield server
        stop_everything(server)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_ls_dir('.')",
        "SELECT lo_import('/etc/passwd')",
        "COPY (SELECT 1) TO PROGRAM 'cat'",
        "COPY (SELECT 1) TO '/tmp/leak'",
        "SET SESSION AUTHORIZATION postgres",
        "SET ROLE postgres",
        "CREATE ROLE another",
        "ALTER ROLE healthcare SUPERUSER",
        "ALTER ROLE healthcare CREATEDB",
        "CREATE DATABASE another",
        "ALTER SYSTEM SET log_statement = 'all'",
        "SET session_replication_role = replica",
        "SET log_min_error_statement = error",
        "CREATE EXTENSION dblink",
        "CREATE FUNCTION run() RETURNS int LANGUAGE internal AS 'int4in'",
        "SELECT * FROM pg_authid",
        "SELECT pg_reload_conf()",
    ],
)
def test_the_login_may_not(running: ServerUnderTest, statement: str) -> None:
    with session_of(running, LOGIN) as cursor, pytest.raises(InsufficientPrivilege):
        cursor.execute(statement)


def give_everything_to_the_superuser(server: ServerUnderTest) -> None:
    """What the data directory of a version that logged in as the superuser looks like."""
    with session_of(server, SUPERUSER) as cursor:
        cursor.execute(
            f"REASSIGN OWNED BY {LOGIN} TO {SUPERUSER}; DROP OWNED BY {LOGIN}; REVOKE healthcare_api FROM {LOGIN};"
            f"DROP ROLE {LOGIN}"
        )


def test_a_data_directory_of_an_earlier_version_gets_the_login_with_its_data(embedded_server: ServerUnderTest) -> None:
    migrated = run_manage(embedded_server.home, "migrate", "--verbosity", "0")
    assert migrated.returncode == 0, migrated.stderr
    program = embedded_server.program()
    program.connect()
    add = "query INSERT INTO auth_group (name) VALUES ('kept') RETURNING name"
    assert program.request(add) == "kept"
    give_everything_to_the_superuser(embedded_server)
    # The next connection finds no role. The server need not be started again.
    assert program.request("connect").startswith("started")
    assert program.request(WHO) == f"{LOGIN} False"
    assert program.request(OWNERS.replace("\n", " ")) == LOGIN
    assert program.request("query SELECT name FROM auth_group ORDER BY id DESC LIMIT 1") == "kept"
    api = "query SET ROLE healthcare_api; SELECT count(*) FROM doctors_doctor"
    assert program.request(api) == "0"
    again = run_manage(embedded_server.home, "migrate", "--verbosity", "0")
    assert (again.returncode, again.stderr) == (0, "")


def test_what_the_superuser_restores_belongs_to_the_login_after_the_next_start(
    embedded_server: ServerUnderTest,
) -> None:
    program = embedded_server.program()
    program.connect()
    with session_of(embedded_server, SUPERUSER) as cursor:
        cursor.execute(
            "CREATE TABLE restored (id int GENERATED BY DEFAULT AS IDENTITY);"
            "CREATE VIEW seen AS SELECT * FROM restored;"
            "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE SEQUENCE counted"
        )
    assert program.request("detach") == "detached"
    assert embedded_server.stopped()
    program.connect()
    assert program.request(OWNERS.replace("\n", " ")) == LOGIN


def test_many_first_connections_prepare_one_login(embedded_server: ServerUnderTest) -> None:
    programs = [embedded_server.program() for _ in range(6)]
    for program in programs:
        program.send(WHO)
    assert {program.read_reply() for program in programs} == {f"{LOGIN} False"}
