"""What import-linter (see pyproject.toml) cannot see: strings that name another app."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

ROOT = Path(settings.BASE_DIR)
# Each app with those that it may not name: the ones above it, and the one beside it.
MAY_NOT_NAME = {
    "healthcare": {"accounts", "audit", "patients", "doctors", "mappings"},
    "accounts": {"audit", "patients", "doctors", "mappings"},
    "audit": {"accounts", "patients", "doctors", "mappings"},
    "patients": {"doctors", "mappings"},
    "doctors": {"patients", "mappings"},
    "mappings": set(),
}
# These compose the project of its apps.
COMPOSITION = {"healthcare/settings.py", "healthcare/urls.py", "healthcare/apps.py"}
# `"patients.Patient"`, `"patients.models.Patient"`, `"patients_patient"` in SQL
NAMED = r"\b({apps})(\.[A-Za-z]\w*|_[a-z]+\b)"
LOOKUPS = {"get_model", "get_app_config", "is_installed", "import_module", "import_string"}


def python_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.py")):
        if not {"tests", "migrations"}.intersection(path.relative_to(folder).parts):
            yield path


def names_of_other_apps(source: str, apps: set[str]) -> list[str]:
    """Each string in this code that names one of these apps, with its line."""
    found = []
    pattern = re.compile(NAMED.format(apps="|".join(sorted(apps)))) if apps else None
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            if pattern and pattern.search(node.value):
                found.append(f"{node.lineno}: {node.value.strip()[:60]}")
        elif isinstance(node, ast.Call) and called_name(node) in LOOKUPS:
            arguments = [argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)]
            found += [f"{node.lineno}: {argument}" for argument in arguments if argument in apps]
    return found


def called_name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


@pytest.mark.parametrize("app", MAY_NOT_NAME)
def test_no_string_names_an_app_that_may_not_be_imported(app: str):
    found = [
        f"{name}:{line}"
        for path in python_files(ROOT / app)
        if (name := path.relative_to(ROOT).as_posix()) not in COMPOSITION
        for line in names_of_other_apps(path.read_text(encoding="utf-8"), MAY_NOT_NAME[app])
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    ['READS = {"patients.Patient"}', 'doctor = IdFilter("doctors.Doctor")', 'get_model("patients", "Patient")',
     'import_string("patients.views.PatientViewSet")', 'SQL = "SELECT id FROM patients_patient"'],
)  # fmt: skip
def test_a_string_that_names_another_app_is_found(source: str):
    assert names_of_other_apps(source, {"patients", "doctors"})


def test_prose_and_other_apps_strings_are_not_found():
    assert names_of_other_apps('"""See patients.models."""\nx = "patients"\ny = "audit.E001"', {"patients"}) == []
