"""A request succeeds when a prepared statement is lost or outdated, and later requests prepare it again."""

import logging
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from conftest import LoggedInClient
from healthcare.fastpath import execution, prepared
from patients.models import Patient
from patients.tests.factories import make_patient

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def path(as_alice: LoggedInClient, alice: User) -> str:
    """A patient whose statement is prepared."""
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")  # what earlier tests prepared may have reached the limit of a session
    prepared.prepared_names(connection).clear()
    url = f"/api/patients/{make_patient(alice).pk}/"
    for _ in range(2):
        assert as_alice.get(url).status_code == 200
    assert is_executed(as_alice, url)
    return url


def sent(client: LoggedInClient, url: str) -> list[str]:
    with CaptureQueriesContext(connection) as queries:
        answer = client.get(url)
    assert (answer.status_code, answer.wsgi_request.served_by) == (200, "fast")  # type: ignore[attr-defined]
    return [query["sql"] for query in queries]


def is_executed(client: LoggedInClient, url: str) -> bool:
    [message] = sent(client, url)
    return message.count("EXECUTE") == 2 and "PREPARE" not in message


@pytest.mark.parametrize("loss", ["DISCARD ALL", "DEALLOCATE ALL"])
def test_a_lost_statement_is_sent_again_and_prepared_again(as_alice: LoggedInClient, path: str, loss: str):
    for _ in range(3):  # also when it happens again
        connection.connection.cursor().execute(loss)
        assert len(sent(as_alice, path)) == 2
        [message] = sent(as_alice, path)
        assert message.count("PREPARE") == 2
        assert is_executed(as_alice, path)


def test_a_lost_statement_costs_no_write(as_alice: LoggedInClient, path: str):
    for name in ("One", "Two"):
        as_alice.patch(path, {"name": name})
        connection.connection.cursor().execute("DEALLOCATE ALL")
        assert as_alice.patch(path, {"name": f"{name} again"}).status_code == 200
    assert [*Patient.objects.values_list("name", "version")] == [("Two again", 5)]


def test_a_changed_table_costs_no_answer(as_alice: LoggedInClient, path: str, other: Any):
    other.cursor().execute("ALTER TABLE patients_patient ALTER COLUMN address TYPE text")
    other.commit()
    try:
        assert as_alice.get(path).status_code == 200
    finally:
        other.cursor().execute("ALTER TABLE patients_patient ALTER COLUMN address TYPE varchar(500)")
        other.commit()
    assert as_alice.get(path).status_code == 200


def test_a_plan_whose_result_type_changes_is_prepared_again(as_alice: LoggedInClient, path: str):
    """As after a migration: `cached plan must not change result type`."""
    connection.connection.cursor().execute("CREATE TEMPORARY TABLE changing AS SELECT 1 AS a")
    statement = execution.Statement("SELECT * FROM changing", plannable=True)
    assert execution.execute([statement]) == [(1,)]
    connection.connection.cursor().execute("ALTER TABLE changing ADD COLUMN b int DEFAULT 2")
    assert execution.execute([statement]) == [(1, 2)]
    assert execution.execute([statement]) == [(1, 2)]
    assert as_alice.get(path).status_code == 200


def test_frequent_losses_suspend_preparing_and_are_logged(
    as_alice: LoggedInClient, path: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    now = 1000.0
    monkeypatch.setattr("healthcare.fastpath.prepared.time.monotonic", lambda: now)
    with caplog.at_level(logging.WARNING, "healthcare.fastpath"):
        for _ in range(prepared.LOSSES):
            connection.connection.cursor().execute("DEALLOCATE ALL")
            assert as_alice.get(path).status_code == 200
            as_alice.get(path)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "DB_PREPARED_STATEMENTS=off" in caplog.text
    [message] = sent(as_alice, path)
    assert "PREPARE" not in message
    assert "EXECUTE" not in message
    now += prepared.FIRST_SUSPENSION + 1
    sent(as_alice, path)
    assert is_executed(as_alice, path)


def test_nothing_is_prepared_when_it_is_switched_off(as_alice: LoggedInClient, path: str, settings: Any):
    settings.DB_PREPARED_STATEMENTS = False
    [message] = sent(as_alice, path)
    assert "PREPARE" not in message
    assert "EXECUTE" not in message


def test_a_lock_timeout_is_a_503_and_no_loss(short_lock_timeout: None, as_alice: LoggedInClient, path: str, other: Any):
    other.cursor().execute("LOCK TABLE patients_patient")
    assert as_alice.get(path).status_code == 503
    other.rollback()
    assert not prepared.losses.times
    assert is_executed(as_alice, path)


def test_a_session_keeps_a_bounded_number_of_statements(
    as_alice: LoggedInClient, path: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(execution, "MAXIMUM_STATEMENTS", 3)
    connection.close()
    as_alice.get(path)
    for number in (1, 10, 20, 50):
        assert as_alice.get(f"/api/patients/?limit={number}").status_code == 200
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements")
        assert cursor.fetchone()[0] <= 3
