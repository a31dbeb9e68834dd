"""An independent validator of R4, fhirkit: it knows elements, types and cardinalities, but no codes and no calendar."""

from typing import Any

import pytest


def errors_by_fhirkit(resource: dict[str, Any] | str) -> list[str]:
    """The errors of a resource, decoded or as JSON text; skips the test without the developers' packages."""
    fhirkit = pytest.importorskip("fhirkit", reason="requirements-dev.txt has it")
    return [f"{issue.path}: {issue.message}" for issue in fhirkit.validate(resource) if issue.severity == "error"]
