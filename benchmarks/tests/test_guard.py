"""What the guard calls a regression, and that nothing gets past the door where questions are counted."""

import psycopg2
import pytest
from django.db import connection

from benchmarks.guard import TOLERANCE, regressions
from benchmarks.relay import listening

LIMITS = {"get one": {"questions": 4.0, "cpu": 2.0}, "list 20": {"questions": 4.0, "cpu": 2.0}}


def test_what_costs_as_it_did_is_fine():
    assert regressions(LIMITS, LIMITS) == {}


def test_an_operation_that_asks_once_more_is_named():
    found = LIMITS | {"list 20": {"questions": 5.0, "cpu": 2.0}}
    assert regressions(found, LIMITS) == {"list 20": "list 20 asks PostgreSQL 5 times; it used to be 4."}


def test_an_operation_that_costs_more_than_noise_is_named():
    found = LIMITS | {"get one": {"questions": 4.0, "cpu": 2.0 * TOLERANCE + 0.01}}
    assert regressions(found, LIMITS) == {"get one": "get one costs 2.51 times the floor; it used to be 2.00."}


def test_an_operation_that_is_new_is_not_judged():
    assert regressions({"history": {"questions": 9.0, "cpu": 9.0}}, LIMITS) == {}


@pytest.mark.django_db
def test_the_relay_hears_every_statement_and_changes_none():
    with listening() as relay:
        client = psycopg2.connect(relay.url_of(connection.settings_dict["NAME"]))
        with client.cursor() as cursor:
            cursor.execute("SELECT %s", ["a" * 100_000])  # longer than one read of a socket
            assert cursor.fetchone() == ("a" * 100_000,)
            cursor.execute("SELECT 1; SELECT 2")
            assert cursor.fetchone() == (2,)
        client.close()
    assert relay.heard == ["BEGIN", f"SELECT '{'a' * 100_000}'", "SELECT 1; SELECT 2"]
