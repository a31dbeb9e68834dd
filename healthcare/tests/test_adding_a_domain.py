"""docs/adding-a-domain.md, followed to the letter in a copy of the project, adds a domain that passes every test.

All of it takes about 75 seconds of CPU time.
"""

import re
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from healthcare.tests.live import own_database
from healthcare.tests.project_copy import ProjectCopy, files_of, read_guide

pytestmark = [pytest.mark.long, pytest.mark.slow]

GUIDE = read_guide("adding-a-domain.md")
ROW_SECURITY, ROLES = (f"appointments/migrations/{name}.py" for name in ("0002_row_level_security", "0003_roles"))
# The tests that collect what the apps declare, and those of row-level security.
CONTRACT_TESTS = [
    "appointments",
    "healthcare/tests/test_contract_matrix.py",
    "healthcare/tests/test_query_matrix.py",
    "healthcare/tests/test_schema.py",
    "healthcare/tests/test_schema_operations.py",
    "healthcare/tests/test_admin_site.py::test_every_model_in_the_admin_is_declared_by_an_app",
    "healthcare/tests/test_admin_site.py::test_staff_without_permissions_see_nothing",
    "healthcare/tests/test_admin_site.py::test_the_index_lists_every_model_and_has_the_projects_title",
    "healthcare/tests/test_admin_site.py::test_no_page_has_markup_that_the_content_security_policy_blocks",
    "healthcare/tests/test_admin_roles.py::test_every_page_has_a_row",
    "healthcare/tests/test_admin_roles.py::test_every_action_has_a_row",
    "healthcare/tests/test_admin_roles.py::test_the_roles_have_exactly_the_permissions_that_the_apps_declare",
    "healthcare/tests/test_admin_roles.py::test_nobody_changes_anything_that_is_not_declared[Records]",
    "healthcare/tests/test_admin_roles.py::test_nobody_changes_anything_that_is_not_declared[Support]",
    "healthcare/tests/test_quickstart.py::test_the_script_makes_every_call_of_the_contract",
    "healthcare/tests/test_hostile_input.py",
    "healthcare/tests/test_layers.py",
    "healthcare/tests/deployment/test_image.py",
    "healthcare/rls/tests/test_checks.py::test_every_table_of_the_project_passes",
    "healthcare/rls/tests/test_row_level_security.py",
]
# Left out: the tests that show that the matrix can fail, those of the description's formats, and of the other apps the
# cells and the hostile input.
CELLS_AND_INPUT = "test_hostile_input or the_same or as_its_row_says"
SELECTED = f"(appointments or declares or not ({CELLS_AND_INPUT})) and not (is_found or json_or_yaml)"
LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"


@pytest.fixture(scope="module")
def extended(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: Any
) -> Iterator[ProjectCopy]:
    """The project after the steps of the guide."""
    with django_db_blocker.unblock():
        connection.ensure_connection()  # starts PostgreSQL where no test before has needed it
    with django_db_blocker.unblock(), own_database() as database:
        project = ProjectCopy(tmp_path_factory.mktemp("adding-a-domain"), database)
        files = files_of(GUIDE, "appointments")
        empty = re.findall(r"`(\S+/__init__\.py)`", GUIDE)
        for path, text in (dict.fromkeys(empty, "") | files).items():
            if path not in {ROW_SECURITY, ROLES}:
                project.write(path, text)
        for text, path, after, line in [
            ('"appointments"', "healthcare/settings.py", '    "mappings",\n', '    "appointments",\n'),
            ('"appointments.urls"', "healthcare/urls.py", '    "mappings.urls",\n', '    "appointments.urls",\n'),
            ("!appointments", ".dockerignore", "!mappings\n", "!appointments\n"),
            ('"appointments"', "pyproject.toml", "root_packages = [", '"appointments", '),
            ('"appointments"', "pyproject.toml", 'layers = ["fhir", ', '"appointments", '),
        ]:
            assert f"`{text}`" in GUIDE
            project.replace(path, after, after + line)
        project.manage("makemigrations", "appointments", "--skip-checks")
        for path in (ROW_SECURITY, ROLES):
            project.write(path, files[path])
        yield project


def test_the_new_domain_passes_the_contract_tests(extended: ProjectCopy) -> None:
    extended.manage("makemigrations", "--check", "--dry-run")
    assert extended.test(*CONTRACT_TESTS, "-k", SELECTED) >= 200


def test_without_the_check_of_the_patients_owner_the_system_check_fails(extended: ProjectCopy) -> None:
    policy, condition = (
        extended.read(ROW_SECURITY),
        "AND EXISTS (SELECT FROM patients_patient p WHERE p.id = patient_id)",
    )
    extended.replace(ROW_SECURITY, condition, "")
    try:
        with pytest.raises(AssertionError, match=r"rls\.E001"):
            extended.manage("check")
    finally:
        extended.write(ROW_SECURITY, policy)


def test_the_new_domain_passes_the_static_checks(extended: ProjectCopy) -> None:
    """Those of `.ci/run`, which calls this test too, after it has installed requirements-dev.txt."""
    for tool in ("ruff", "mypy", "importlinter"):
        pytest.importorskip(tool, reason="requirements-dev.txt has it")
    # What the guide writes: no other file can refer to the new app.
    extended.check_style("appointments", "healthcare/settings.py", "healthcare/urls.py")
    assert "0 broken." in extended.python("-c", LINT_IMPORTS, "--no-logo", "--no-cache")
    production = {"DEBUG": "False", "HTTPS": "True", "ALLOWED_HOSTS": "api.example.org"}
    production["SECRET_KEY"] = secrets.token_urlsafe(50)
    extended.manage("check", "--deploy", "--fail-level", "WARNING", **production)
