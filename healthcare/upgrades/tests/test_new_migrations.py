"""What the next release migrates makes nobody wait, or says in the migration why it may."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections
from django.db.migrations.loader import MigrationLoader

from healthcare.tests.live import own_database
from healthcare.upgrades.catalog import read_catalog
from healthcare.upgrades.releases import read_releases, released_migrations
from healthcare.upgrades.sql_check import RecordingExecutor, squawk_command, unexplained
from healthcare.upgrades.tests.conftest import ALIAS

pytestmark = pytest.mark.slow

ROOT = Path(settings.BASE_DIR)


def project_migrations(loader: MigrationLoader) -> set[tuple[str, str]]:
    """Those of this project, not of the packages that it uses."""
    apps = {path.parent.name for path in ROOT.glob("*/migrations")}
    apps |= {path.parent.name for path in ROOT.glob("healthcare/*/migrations")}
    return {key for key in loader.graph.nodes if key[0] in apps}


def last_migrations(loader: MigrationLoader) -> str:
    apps = {app for app, _ in project_migrations(loader)}
    return "\n".join(sorted(f"{app}.{name}" for app, name in loader.graph.leaf_nodes() if app in apps))


def test_every_released_migration_is_part_of_the_project() -> None:
    loader = MigrationLoader(None)
    for release in read_releases():
        assert release.last_migrations <= loader.graph.nodes.keys(), "a migration that was released must stay"


def test_a_released_version_names_its_last_migrations() -> None:
    """When the changelog has no section Unreleased, the newest file in docs/upgrades is that of this version."""
    releases, loader = read_releases(), MigrationLoader(None)
    assert releases
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    newest = ".".join(map(str, releases[-1].version))
    assert releases[-1].version <= tuple(map(int, version.split(".")))
    listed = (ROOT / "docs" / "upgrades" / "README.md").read_text(encoding="utf-8")
    assert [f"[{'.'.join(map(str, release.version))}]" in listed for release in releases] == [True] * len(releases)
    if "## [Unreleased]" not in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"):
        text = (ROOT / "docs" / "upgrades" / f"{newest}.md").read_text(encoding="utf-8")
        assert newest == version, f"docs/upgrades/{version}.md is missing"
        assert last_migrations(loader) in text, last_migrations(loader)


@pytest.mark.skipif(not squawk_command(), reason="requirements-dev.txt has squawk")
def test_new_migrations_let_readers_and_writers_go_on(django_db_setup: None, django_db_blocker: Any) -> None:
    loader = MigrationLoader(None)
    released = released_migrations(loader, read_releases()[-1])
    new = project_migrations(loader) - released
    if not new:
        return
    problems: list[str] = []
    with django_db_blocker.unblock():
        connection.ensure_connection()
        with own_database() as name:
            database: Any = connection.copy(ALIAS)
            database.settings_dict["NAME"] = name
            connections[ALIAS] = database
            try:
                executor = RecordingExecutor(database)
                state = executor.migrate(sorted(read_releases()[-1].last_migrations))
                executor = RecordingExecutor(database)
                tables = read_catalog(database).tables.keys()
                for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes()):
                    state, recording = executor.record(state, migration, tables)
                    if (migration.app_label, migration.name) in new:
                        problems += unexplained(migration, recording)
            finally:
                database.close()
                del connections[ALIAS]
    assert not problems, "\n".join(
        ["Rewrite the migration as docs/upgrades/README.md says, or explain it in its `sql_exceptions`:", *problems]
    )
