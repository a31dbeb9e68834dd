"""A live server with the project's own timeouts, on a PostgreSQL of its own that tests may damage and repair."""

from collections.abc import Iterator

import pytest

from healthcare.embedded.home import Home
from healthcare.operations.tests.calls import Caller
from healthcare.tests.live import LiveServer, serving
from healthcare.tests.postgres import SeparatePostgres, separate_postgres


@pytest.fixture(scope="package")
def postgres(migrated_home: Home) -> Iterator[SeparatePostgres]:
    with separate_postgres(migrated_home) as started:
        yield started


@pytest.fixture(scope="package")
def server(postgres: SeparatePostgres) -> Iterator[LiveServer]:
    with serving(postgres.url, migrated=True, DJANGO_SETTINGS_MODULE="healthcare.settings") as started:
        yield started


@pytest.fixture
def caller(server: LiveServer) -> Caller:
    return Caller(server)
