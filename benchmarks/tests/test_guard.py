"""What the guard calls a regression, and that the recorder misses no statement."""

import psycopg2
import pytest
from django.db import connection

from benchmarks.guard import TOLERANCE, find_regressions
from benchmarks.statement_recorder import Sent, start_recorder

ENOUGH = {"statements": 4, "round_trips": 2, "cpu": 2.0}
LIMITS = {"get one": ENOUGH, "list 20": ENOUGH, "list 20, ?gender=": ENOUGH}


def test_an_operation_within_its_limits_passes():
    assert find_regressions(LIMITS, LIMITS) == {}


def test_one_more_statement_is_a_regression():
    found = LIMITS | {"list 20": ENOUGH | {"statements": 5}}
    assert find_regressions(found, LIMITS) == {"list 20": "list 20 sends 5 statements to PostgreSQL; its limit is 4."}


def test_one_more_round_trip_is_a_regression():
    found = LIMITS | {"list 20": ENOUGH | {"round_trips": 3}}
    assert find_regressions(found, LIMITS) == {"list 20": "list 20 sends 3 messages to PostgreSQL; its limit is 2."}


@pytest.mark.parametrize(("operation", "beside"), [("get one", "the floor"), ("list 20, ?gender=", "'list 20'")])
def test_more_cpu_than_the_tolerance_is_a_regression(operation, beside):
    allowed = LIMITS | {operation: ENOUGH | {"cpu": 2.0 * TOLERANCE}}
    assert find_regressions(allowed, LIMITS) == {}
    found = LIMITS | {operation: ENOUGH | {"cpu": 2.0 * TOLERANCE + 0.01}}
    assert find_regressions(found, LIMITS) == {
        operation: f"{operation} costs 2.51 times the CPU of {beside}; it was 2.00."
    }


def test_an_operation_without_limits_passes():
    assert find_regressions({"history": ENOUGH | {"cpu": 9.0}}, LIMITS) == {}


def test_statements_that_control_the_transaction_or_its_settings_are_not_counted():
    sent = Sent(
        [
            "BEGIN",
            "SELECT set_config('app.user_id', '1', true), 'a; b'",
            "SELECT set_config('app.user_id', id::text, true) FROM accounts_user;\nSET LOCAL role api;\nEXECUTE one(1)",
            "COMMIT",
        ]
    )
    assert sent.statements == [
        "SELECT set_config('app.user_id', id::text, true) FROM accounts_user;",
        "EXECUTE one(1)",
    ]


@pytest.mark.django_db
def test_the_recorder_records_every_message_and_changes_none():
    with start_recorder() as recorder:
        client = psycopg2.connect(recorder.url_of(connection.settings_dict["NAME"]))
        with client.cursor() as cursor:
            cursor.execute("SELECT %s", ["a" * 100_000])  # longer than one read of a socket
            assert cursor.fetchone() == ("a" * 100_000,)
            cursor.execute("SELECT 1; SELECT 2")
            assert cursor.fetchone() == (2,)
        client.close()
    assert recorder.messages == ["BEGIN", f"SELECT '{'a' * 100_000}'", "SELECT 1; SELECT 2"]
