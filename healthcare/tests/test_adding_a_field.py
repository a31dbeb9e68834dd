"""docs/adding-a-field.md, followed to the letter in a copy of the project, adds a field that appears everywhere.

All of it takes about 45 seconds of CPU time.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from healthcare.tests.live import own_database
from healthcare.tests.project_copy import ProjectCopy, files_of, hunks_of, read_guide

pytestmark = [pytest.mark.long, pytest.mark.slow]

GUIDE = read_guide("adding-a-field.md")
CONTRACT_TESTS = [
    "patients/tests/test_blood_group.py",
    "patients/tests/test_patients.py",
    "patients/tests/test_merged_fields.py",
    "patients/tests/test_filters.py",
    "healthcare/tests/test_schema_operations.py",
    "healthcare/tests/test_query_matrix.py",
    "healthcare/tests/test_hostile_input.py",
]
# Of the hostile input only what is sent in the new field.
SELECTED = "not test_hostile_input or blood_group"


# A column of each of these types, by which `column_types` sends its calls.
COLUMNS = """
    weight = models.DecimalField(max_digits=5, decimal_places=2, null=True, blank=True)
    preferences = models.JSONField(default=dict, blank=True)
    passport = models.UUIDField(null=True, blank=True)
    notes = models.TextField(blank=True)
    wakes_at = models.TimeField(null=True, blank=True)
"""


@pytest.fixture(scope="module")
def extended(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: Any
) -> Iterator[ProjectCopy]:
    """The project after the steps of the guide."""
    with django_db_blocker.unblock():
        connection.ensure_connection()  # starts PostgreSQL where no test before has needed it
        with own_database() as database:
            project = ProjectCopy(tmp_path_factory.mktemp("adding-a-field"), database)
            for path, hunk in hunks_of(GUIDE, "patients"):
                project.patch(path, hunk)
            for path, text in files_of(GUIDE, "patients").items():
                project.write(path, text)
            project.manage("makemigrations", "patients")
            yield project


def test_the_new_field_appears_everywhere(extended: ProjectCopy) -> None:
    extended.manage("makemigrations", "--check", "--dry-run")
    assert "blood_group" not in extended.manage("check")
    extended.manage("spectacular", "--validate", "--fail-on-warn", "--file", os.devnull)
    assert extended.test(*CONTRACT_TESTS, "-k", SELECTED) >= 190


def test_the_new_field_passes_the_static_checks(extended: ProjectCopy) -> None:
    for tool in ("ruff", "mypy"):
        pytest.importorskip(tool, reason="requirements-dev.txt has it")
    extended.check_style(".")
    assert extended.test("healthcare/upgrades/tests/test_new_migrations.py") == 3


def test_a_column_of_any_type_is_served_by_the_fast_path_or_named_by_its_check(
    tmp_path: Path, django_db_setup: None, django_db_blocker: Any
) -> None:
    with django_db_blocker.unblock():
        connection.ensure_connection()  # starts PostgreSQL where no test before has needed it
        with own_database() as database:
            project = ProjectCopy(tmp_path, database)
            project.insert("patients/models.py", COLUMNS.lstrip("\n"), before="    deleted_at = models.DateTimeField(")
            project.manage("makemigrations", "patients")
            project.write("patients/tests/test_column_types.py", project.read("healthcare/tests/column_types.py"))
            assert project.test("patients/tests/test_column_types.py") == 11
