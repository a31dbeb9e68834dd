"""The lock files fit the requirements files, and the version is stated in one place."""

import importlib.metadata
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from django.conf import settings
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from healthcare.api.schema_view import description
from healthcare.first_run.installer import TESTS_SECTION

ROOT = Path(settings.BASE_DIR)
LOCK_FILES = {
    "requirements.lock": ["requirements.txt"],
    "requirements-production.lock": ["requirements.txt"],
    "requirements-dev.lock": ["requirements.txt", "requirements-dev.txt"],
}


@dataclass
class LockedPackage:
    requirement: Requirement
    hashes: list[str] = field(default_factory=list)

    @property
    def version(self) -> str:
        [specifier] = self.requirement.specifier
        assert specifier.operator == "=="
        return specifier.version


def read_requirements(name: str, *, tests: bool = True) -> list[Requirement]:
    text = (ROOT / name).read_text(encoding="utf-8")
    if not tests:
        text = text.partition(TESTS_SECTION)[0]
    lines = [line.partition(" #")[0].strip() for line in text.splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-r"))]


def read_lock(name: str) -> dict[str, LockedPackage]:
    locked: dict[str, LockedPackage] = {}
    text = (ROOT / name).read_text(encoding="utf-8").replace(" \\\n", "")
    for line in text.splitlines():
        if line and line[0].isalnum():
            pinned, *hashes = line.split("    --hash=")
            package = LockedPackage(Requirement(pinned.strip()), hashes)
            locked[canonicalize_name(package.requirement.name)] = package
    return locked


def dependencies(names: Iterable[str]) -> set[str]:
    """The names and everything that they depend on in this environment, by the metadata of what is installed."""
    found: set[tuple[str, str]] = set()
    waiting = [(name, "") for name in names]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for text in importlib.metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(requirement.name), chosen) for chosen in ("", *requirement.extras)]
    return {name for name, _ in found}


@pytest.mark.parametrize("name", LOCK_FILES)
def test_a_lock_file_fits_its_requirements_files(name: str):
    """A failure here means: run scripts/lock."""
    locked = read_lock(name)
    for source in LOCK_FILES[name]:
        for requirement in read_requirements(source, tests="production" not in name):
            package = locked[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(package.version), f"{requirement} is locked at {package.version}"


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-production.lock"])
def test_a_lock_file_has_every_dependency_and_nothing_else(name: str):
    locked = read_lock(name)
    direct = {canonicalize_name(one.name) for one in read_requirements("requirements.txt", tests="prod" not in name)}
    here = {
        key for key, package in locked.items() if (marker := package.requirement.marker) is None or marker.evaluate()
    }
    if any(importlib.metadata.version(key) != locked[key].version for key in direct):
        pytest.skip("the packages of this environment do not come from requirements.lock")
    assert here == dependencies(direct)


def test_the_production_lock_has_no_test_tools():
    production, everything = read_lock("requirements-production.lock"), read_lock("requirements.lock")
    assert {key: one.version for key, one in production.items()}.items() < {
        key: one.version for key, one in everything.items()
    }.items()
    for tool in ("pytest", "pytest-django", "pytest-xdist", "pytest-randomly", "hypothesis", "execnet", "pluggy"):
        assert tool in everything
        assert tool not in production


def test_the_developers_lock_has_the_same_versions():
    developers = read_lock("requirements-dev.lock")
    for key, package in read_lock("requirements.lock").items():
        assert (developers[key].version, developers[key].hashes) == (package.version, package.hashes), key


@pytest.mark.parametrize("name", LOCK_FILES)
def test_every_locked_package_has_hashes_and_no_index(name: str):
    for key, package in read_lock(name).items():
        assert package.hashes, key
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in package.hashes), key
    assert "://" not in (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_stated_once():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert description()["info"]["version"] == version
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## .*", changelog, re.MULTILINE)
    assert newest
    assert version in newest[0]
    for file in [*ROOT.glob("healthcare/*.py"), *ROOT.glob("healthcare/api/*.py")]:
        assert f'"{version}"' not in file.read_text(encoding="utf-8"), file
