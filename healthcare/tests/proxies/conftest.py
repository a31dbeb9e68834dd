"""An application behind each of the proxies, as deploy/ describes both."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from healthcare.tests.live import LiveServer, serving
from healthcare.tests.proxies.proxy import APPLICATION_SETTINGS, RECIPES, Proxy, program, running_proxy


@pytest.fixture(scope="session")
def application_log(tmp_path_factory: Any) -> Path:
    folder: Path = tmp_path_factory.mktemp("application")
    return folder / "log"


@pytest.fixture(scope="session")
def application(live_database: str, application_log: Path) -> Iterator[LiveServer]:
    """A server as the recipes expect it, shared by the tests of one worker."""
    with serving(live_database, migrated=True, output=application_log, **APPLICATION_SETTINGS) as server:
        yield server


@pytest.fixture(scope="session", params=RECIPES)
def proxy_name(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if not program(name):
        pytest.skip(f"needs {name}")
    return name


@pytest.fixture(scope="session")
def proxy(proxy_name: str, application: LiveServer) -> Iterator[Proxy]:
    """The proxy in front of the application."""
    with running_proxy(proxy_name, application.port, application.port) as started:
        yield started


@pytest.fixture
def proxies(application: LiveServer) -> Iterator[list[Proxy]]:
    """Each proxy in front of the application, all of them at once."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(running_proxy(name, application.port, application.port))
            for name in RECIPES
            if program(name)
        ]
