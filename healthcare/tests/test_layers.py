"""What import-linter (see pyproject.toml) cannot see: strings that name another app."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings

from healthcare.tests.python_source import parse_python

ROOT = Path(settings.BASE_DIR)
# Each app with those that it may not name: the ones above it, and the one beside it.
MAY_NOT_NAME = {
    "healthcare": {"accounts", "audit", "patients", "doctors", "mappings", "fhir"},
    "accounts": {"audit", "patients", "doctors", "mappings", "fhir"},
    "audit": {"accounts", "patients", "doctors", "mappings", "fhir"},
    "patients": {"doctors", "mappings", "fhir"},
    "doctors": {"patients", "mappings", "fhir"},
    "mappings": {"fhir"},
    "fhir": set(),
}
# These compose the project of its apps.
COMPOSITION = {"healthcare/settings.py", "healthcare/urls.py", "healthcare/apps.py"}
# `"patients.Patient"`, `"patients.models.Patient"`, `"patients_patient"` in SQL, `"patients__name"`, `"patients"`
NAMED = r"\b({apps})(\.[A-Za-z]\w*|__?[a-z]\w*)|^({apps})$"
COLUMN = "fhir"  # of patients and doctors, as well as an app
RELATION = r"({apps})(__\w+)?"  # a keyword of `filter` or `Q`


def python_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.py")):
        if not {"tests", "migrations"}.intersection(path.relative_to(folder).parts):
            yield path


def names_of_other_apps(source: str, apps: set[str]) -> list[str]:
    """Each string in this code that names one of these apps, with its line."""
    found: list[str] = []
    if not apps:
        return found
    named, relation = (re.compile(pattern.format(apps="|".join(sorted(apps)))) for pattern in (NAMED, RELATION))
    tree = parse_python(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            if named.search(node.value) and node.value != COLUMN:
                found.append(f"{node.lineno}: {node.value.strip()[:60]}")
        elif isinstance(node, ast.keyword) and node.arg and relation.fullmatch(node.arg):
            found.append(f"{node.lineno}: {node.arg}")
    return found


@pytest.mark.parametrize("app", MAY_NOT_NAME)
def test_no_string_names_an_app_that_may_not_be_imported(app: str):
    models = list(apps.get_app_config(app).get_models())
    columns = {field.name for model in models for field in model._meta.fields}  # such as `fhir` of a patient
    found = [
        f"{name}:{line}"
        for path in python_files(ROOT / app)
        if (name := path.relative_to(ROOT).as_posix()) not in COMPOSITION
        for line in names_of_other_apps(path.read_text(encoding="utf-8"), MAY_NOT_NAME[app] - columns)
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    ['READS = {"patients.Patient"}', 'doctor = IdFilter("doctors.Doctor")', 'get_model("patients", "Patient")',
     'import_string("patients.views.PatientViewSet")', 'SQL = "SELECT id FROM patients_patient"',
     "Q(doctors__deleted_at=None)", 'values("doctors__name")', 'Count("doctors")'],
)  # fmt: skip
def test_a_string_that_names_another_app_is_found(source: str):
    assert names_of_other_apps(source, {"patients", "doctors"})


def test_prose_and_other_apps_strings_are_not_found():
    assert names_of_other_apps('"""See patients.models."""\nx = "the patients"\ny = "audit.E001"', {"patients"}) == []
