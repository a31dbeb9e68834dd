"""The releases: `docs/upgrades/<version>.md` names the last migration of each app that the release has."""

import re
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db.migrations.loader import MigrationLoader

RELEASE_FILE = re.compile(r"(\d+)\.(\d+)\.(\d+)\.md")
MIGRATION = re.compile(r"^([a-z_]+)\.(\d{4}_\w+)$", re.MULTILINE)


@dataclass(frozen=True)
class Release:
    version: tuple[int, ...]
    last_migrations: frozenset[tuple[str, str]]


def read_releases(folder: Path | None = None) -> list[Release]:
    """All releases, the oldest first."""
    folder = folder or Path(settings.BASE_DIR) / "docs" / "upgrades"
    found = [
        Release(tuple(map(int, name.groups())), frozenset(MIGRATION.findall(path.read_text(encoding="utf-8"))))
        for path in folder.iterdir()
        if (name := RELEASE_FILE.fullmatch(path.name))
    ]
    return sorted(found, key=lambda release: release.version)


def released_migrations(loader: MigrationLoader, release: Release) -> set[tuple[str, str]]:
    """Those that the release names, and all that they depend on."""
    return {key for last in release.last_migrations for key in loader.graph.forwards_plan(last)}
