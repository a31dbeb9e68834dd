"""A migration is frozen: it holds its own SQL and imports nothing that may change its meaning."""

import ast
from pathlib import Path

from django.conf import settings

from healthcare.tests.python_source import parse_python

# Fields, validators, and operations and triggers that take their SQL as text.
ALLOWED = {
    "healthcare.migration_operations",
    "healthcare.model_fields",
    "healthcare.rls.operations",
    "healthcare.staff_roles.operations",
    "healthcare.triggers",
}
LIBRARIES = {"django", "pghistory", "pgtrigger"}
MIGRATIONS = [
    path
    for path in Path(settings.BASE_DIR).glob("**/migrations/0*.py")
    if not {".venv", "build", "benchmarks"} & set(path.parts)
]


def imported_modules(path: Path) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(parse_python(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module or "")
    return modules


def test_migrations_import_only_what_takes_its_sql_as_text() -> None:
    assert MIGRATIONS
    for path in MIGRATIONS:
        own = {module for module in imported_modules(path) if module.partition(".")[0] not in LIBRARIES}
        assert own <= ALLOWED, path
