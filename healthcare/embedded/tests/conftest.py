"""Fixtures: each test gets a separate home, and everything that runs on it is stopped."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from healthcare.embedded.binaries import find_binaries
from healthcare.embedded.cluster import ensure_data_directory
from healthcare.embedded.home import Home, resolve_home
from healthcare.embedded.tests.harness import ServerUnderTest, copy_data, stop_everything
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
def uninitialized_server(folder: Path, make_embedded_server: Callable[[Path], ServerUnderTest]) -> ServerUnderTest:
    """A home that does not exist yet."""
    return make_embedded_server(folder / "home")


@pytest.fixture(scope="session")
def initialized_home() -> Iterator[Home]:
    """A home whose data directory initdb has created, to be copied."""
    with temporary_folder() as folder:
        home = resolve_home(folder / "home")
        home.create()
        ensure_data_directory(home, find_binaries().accessible_to_server(home))
        yield home


@pytest.fixture
def initialized_server(uninitialized_server: ServerUnderTest, initialized_home: Home) -> ServerUnderTest:
    """A home with a data directory, for the tests that are not about its creation: initdb takes a second."""
    copy_data(initialized_home, resolve_home(uninitialized_server.home))
    return uninitialized_server


@pytest.fixture
def embedded_server(uninitialized_server: ServerUnderTest) -> ServerUnderTest:
    """The server under test. A module of tests that start from an initialized one overrides this fixture."""
    return uninitialized_server
