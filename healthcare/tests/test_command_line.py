"""Only the entry points read the command line; everything else takes what it needs as a parameter."""

import ast
from pathlib import Path

import pytest
from django.conf import settings

from healthcare.tests.python_source import parse_python

ROOT = Path(settings.BASE_DIR)
ENTRY_POINTS = {
    "manage.py",
    "benchmarks/__main__.py",
    "deploy/cluster/__main__.py",
    "scripts/clients/quickstart.py",
    "scripts/overload.py",
}


def test_only_the_entry_points_read_the_command_line():
    files = [path.relative_to(ROOT) for path in ROOT.glob("[!.]*/**/*.py")] + [Path("manage.py")]
    code = [path for path in files if not {"tests", "references"}.intersection(path.parts)]
    found = {path.as_posix() for path in code if reads_command_line((ROOT / path).read_text(encoding="utf-8"))}
    assert found == ENTRY_POINTS


def reads_command_line(source: str) -> bool:
    return any(
        (isinstance(node, ast.Attribute) and node.attr == "argv")
        or (isinstance(node, ast.ImportFrom) and node.module == "sys" and "argv" in [name.name for name in node.names])
        for node in ast.walk(parse_python(source))
    )


@pytest.mark.parametrize("source", ["import sys\nsys.argv[1]", "from sys import argv"])
def test_reading_the_command_line_is_found(source: str):
    assert reads_command_line(source)
