"""Fixtures: the fast path switched on, a second connection, and a short lock timeout."""

from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
from django.conf import settings as django_settings
from django.db import connection

from healthcare.fastpath.prepared import losses
from healthcare.fastpath.public_cache import answers


@pytest.fixture(autouse=True)
def fast_path_is_on(settings: Any) -> None:
    """Switch the fast path on, whatever FAST_PATH the suite runs with, and clear its caches."""
    settings.FAST_PATH = "on"
    settings.DB_PREPARED_STATEMENTS = True
    losses.reset()
    answers.clear()


@pytest.fixture
def other() -> Iterator[Any]:
    """A second connection to the database."""
    opened = psycopg2.connect(**{**connection.get_connection_params(), "cursor_factory": None})
    yield opened
    opened.close()


@pytest.fixture
def short_lock_timeout(transactional_db: None) -> Iterator[None]:
    """Let requests wait 0.2 s for a lock, instead of the minute that `healthcare.tests.settings` allows."""
    timeout = f"set_config('lock_timeout', '{django_settings.API_LOCK_TIMEOUT}', true)"
    shortened: list[str] = []

    def shorten(execute: Any, sql: str, *rest: Any) -> Any:
        if timeout in sql:
            shortened.append(sql)
        return execute(sql.replace(timeout, timeout.replace(django_settings.API_LOCK_TIMEOUT, "200ms")), *rest)

    connection.close()  # the statements that its session has prepared contain the timeout
    with connection.execute_wrapper(shorten):
        yield
    assert shortened
    connection.close()
