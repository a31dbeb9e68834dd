from typing import Any

from accounts.models import User
from healthcare.imports.models import Import


def make_import(owner: User, kind: str, *lines: dict[str, Any]) -> Import:
    """An import with these lines, from line 2 on."""
    parent: Import = Import.objects.create(created_by=owner, caller=owner.pk, kind=kind)
    for number, line in enumerate(lines, 2):
        parent.lines.create(**{"created_by": owner, "line": number, "status": "created", "version": 1} | line)
    return parent
