"""Independent validators of R4. fhirkit knows elements, types and cardinalities, but no codes and no calendar; Medplum
knows elements, types, cardinalities and patterns of its own reading of R4's definitions."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fhir.json import encode


def errors_by_fhirkit(resource: dict[str, Any] | str) -> list[str]:
    """The errors of a resource, decoded or as JSON text; skips the test without the developers' packages."""
    fhirkit = pytest.importorskip("fhirkit", reason="requirements-dev.txt has it")
    return [f"{issue.path}: {issue.message}" for issue in fhirkit.validate(resource) if issue.severity == "error"]


def install_medplum(folder: Path) -> Callable[[Sequence[dict[str, Any]]], list[str]]:
    """Install Medplum's packages in a new folder, and return a function that gives the errors of resources."""
    shutil.copytree(Path(__file__).parent / "medplum", folder)
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True)

    def validate(resources: Sequence[dict[str, Any]]) -> list[str]:
        lines = "".join(encode(resource) + "\n" for resource in resources)
        command = ["node", "validate.js"]
        done = subprocess.run(command, cwd=folder, input=lines, stdout=subprocess.PIPE, text=True, check=True)
        *errors, count = done.stdout.splitlines()
        assert count == f"{len(resources)} validated"
        return errors

    return validate
