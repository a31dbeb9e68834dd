"""Each test has a home of its own, and ends what runs on it."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from healthcare.embedded.tests.place import Place, end_all


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short folder that every account may enter."""
    made = Path(tempfile.mkdtemp(prefix="hc-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def make_place() -> Iterator[Callable[[Path], Place]]:
    places: list[Place] = []

    def make(home: Path) -> Place:
        places.append(Place(home))
        return places[-1]

    yield make
    for place in places:
        end_all(place)


@pytest.fixture
def place(folder: Path, make_place: Callable[[Path], Place]) -> Place:
    return make_place(folder / "home")
