"""The SQLSTATE of a request is that of the error that explains its failure, wherever the database reports it."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DatabaseError, Error, OperationalError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.base import DatabaseWrapper

from healthcare.operations.database_errors import forget_sqlstate, last_sqlstate
from healthcare.tests.superuser import admin_connection


@pytest.fixture(autouse=True)
def no_error_before() -> Iterator[None]:
    forget_sqlstate()
    yield
    forget_sqlstate()


@pytest.fixture
def other_connection(db: None) -> Iterator[BaseDatabaseWrapper]:
    """A second connection of the tests' database, which a test may break."""
    other = connection.copy()
    yield other
    other.inc_thread_sharing()
    other.close()


def fails_with(sql: str, database: Any = connection) -> str | None:
    with pytest.raises(DatabaseError), transaction.atomic(), database.cursor() as cursor:
        cursor.execute(sql)
    return last_sqlstate()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("sql", "sqlstate"),
    [
        ("SELECT 1 / 0", "22012"),
        ("SELECT FROM nothing", "42P01"),
        ("SET LOCAL statement_timeout = 1; SELECT pg_sleep(60)", "57014"),
        ("SET LOCAL transaction_read_only = on; CREATE TABLE refused ()", "25006"),
        ("DO $$BEGIN RAISE 'ours' USING ERRCODE = 'HC001'; END$$", "HC001"),
    ],
)
def test_an_error_of_a_statement_has_the_code_of_the_server(sql: str, sqlstate: str):
    assert last_sqlstate() is None
    assert fails_with(sql) == sqlstate


@pytest.mark.django_db
def test_an_error_at_the_commit_has_it_too(other_connection: BaseDatabaseWrapper):
    other_connection.set_autocommit(False)
    with other_connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE once (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        cursor.execute("INSERT INTO once VALUES (1), (1)")
    with pytest.raises(Error):
        other_connection.commit()
    assert last_sqlstate() == "23505"


@pytest.mark.django_db
def test_what_follows_from_an_error_does_not_hide_it(other_connection: BaseDatabaseWrapper):
    other_connection.set_autocommit(False)
    with other_connection.cursor() as cursor:
        with pytest.raises(Error):
            cursor.execute("SELECT 1 / 0")
        with pytest.raises(Error):
            cursor.execute("SELECT 1")  # 25P02
    assert last_sqlstate() == "22012"


@pytest.mark.django_db
def test_a_session_that_the_server_has_ended_is_a_lost_connection(other_connection: BaseDatabaseWrapper):
    with other_connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        with admin_connection() as admin:
            admin.cursor().execute("SELECT pg_terminate_backend(%s, 5000)", cursor.fetchone())
        with pytest.raises(Error):
            cursor.execute("SELECT 1")
        lost = last_sqlstate()
        assert lost in {"57P01", "08006"}  # whether psycopg2 reads the server's farewell is a race
        with pytest.raises(Error):
            cursor.execute("SELECT 1")
    assert last_sqlstate() == lost
    forget_sqlstate()
    with pytest.raises(Error):
        other_connection.rollback()
    assert last_sqlstate() == "08003"


@pytest.mark.django_db
def test_a_server_that_cannot_be_reached_has_the_code_of_a_failed_connection(tmp_path: Any):
    wrapper = DatabaseWrapper({**connection.settings_dict, "HOST": str(tmp_path), "PORT": "5432"}, "away")
    with pytest.raises(OperationalError):
        wrapper.ensure_connection()
    assert last_sqlstate() == "08001"


@pytest.mark.django_db
def test_an_error_of_the_driver_alone_has_none():
    with pytest.raises(Error), connection.cursor() as cursor:
        cursor.execute("SELECT %s", [object()])  # type: ignore[list-item]
    assert last_sqlstate() is None
