"""Fixtures: each test gets a separate home, and everything that runs on it is stopped."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from healthcare.embedded.tests.harness import ServerUnderTest, stop_everything
from healthcare.tests.memory_folder import temporary_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path that every account can enter."""
    with temporary_folder() as path:
        yield path


@pytest.fixture
def make_embedded_server() -> Iterator[Callable[[Path], ServerUnderTest]]:
    servers: list[ServerUnderTest] = []

    def make(home: Path) -> ServerUnderTest:
        servers.append(ServerUnderTest(home))
        return servers[-1]

    yield make
    for embedded_server in servers:
        stop_everything(embedded_server)


@pytest.fixture
def embedded_server(folder: Path, make_embedded_server: Callable[[Path], ServerUnderTest]) -> ServerUnderTest:
    return make_embedded_server(folder / "home")
