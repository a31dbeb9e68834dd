"""Fixtures: the fast path switched on, a viewset at its paths, both ways, a second connection, a short lock timeout."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.urls import path

from healthcare.api.unknown_parameters import known_parameters
from healthcare.fastpath.prepared import losses
from healthcare.fastpath.public_cache import answers

LIST, DETAIL = {"get": "list", "post": "create"}, {"get": "retrieve", "put": "update", "patch": "partial_update"}
Serve = Callable[..., None]
Both = Callable[[Callable[[], Any]], tuple[Any, Any]]


@pytest.fixture(autouse=True)
def fast_path_is_on(settings: Any) -> None:
    """Switch the fast path on, whatever FAST_PATH the suite runs with, and clear its caches."""
    settings.FAST_PATH = "on"
    settings.DB_PREPARED_STATEMENTS = True
    losses.reset()
    answers.clear()


@pytest.fixture
def serve(settings: Any) -> Serve:
    """Serves a viewset at the paths of a kind of record; `around` wraps its views."""
    known_parameters()  # which the OpenAPI description of the product's own URLs names

    def at(viewset: Any, kind: str = "patients", around: Any = lambda view: view, **options: Any) -> None:
        settings.ROOT_URLCONF = (
            path(f"api/{kind}/", around(viewset.as_view(dict(LIST), **options))),
            path(f"api/{kind}/<int:pk>/", around(viewset.as_view(dict(DETAIL), **options))),
        )

    return at


@pytest.fixture
def both(settings: Any) -> Both:
    """Makes calls with FAST_PATH=off and then on, and returns what they return."""

    def with_each_path(call: Callable[[], Any]) -> tuple[Any, Any]:
        settings.FAST_PATH = "off"
        expected = call()
        settings.FAST_PATH = "on"
        return expected, call()

    return with_each_path


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
