"""References between resources: which of them refer to this server, and whether those exist."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from django.db.models import QuerySet

from doctors.models import Doctor
from fhir.exceptions import Invalid
from fhir.issues import Issue
from healthcare.ownership import RecordOwner
from patients.models import Patient

# https://hl7.org/fhir/R4/references.html#literal; `base` is empty in a relative reference.
LITERAL_REFERENCE = re.compile(
    r"(?:(?P<base>https?://[^\s?#]+)/)?(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?"
)
RECORD_ID = re.compile(r"[1-9][0-9]{0,17}")  # of a record of ours


def scopes(owner: RecordOwner) -> dict[str, QuerySet]:
    """The records that the owner may refer to, by resource type. A care team has the id of its patient."""
    patients = Patient.objects.owned_by(owner).active()
    return {"Patient": patients, "Practitioner": Doctor.objects.active(), "CareTeam": patients}


def own_reference(text: str, base: str) -> tuple[str, str] | None:
    """The type and the id that a literal reference names on this server; None for any other reference."""
    match = LITERAL_REFERENCE.fullmatch(text)
    if match is None or (match["base"] is not None and match["base"] != base):
        return None
    return match["type"], match["id"]


def references_in(value: Any, expression: str) -> Iterator[tuple[str, str]]:
    """The literal references in a resource, each with its expression."""
    if isinstance(value, dict):
        reference = value.get("reference")
        if isinstance(reference, str) and "resourceType" not in value:
            yield reference, f"{expression}.reference"
        for name, part in value.items():
            yield from references_in(part, f"{expression}.{name}")
    elif isinstance(value, list):
        for place, part in enumerate(value):
            yield from references_in(part, f"{expression}[{place}]")


def replace_references(value: Any, expression: str, replace: Callable[[str, str], str]) -> Any:
    """A copy of a resource, in which each literal reference is what `replace` returns for it and its expression."""
    if isinstance(value, dict):
        copied = {name: replace_references(part, f"{expression}.{name}", replace) for name, part in value.items()}
        reference = value.get("reference")
        if isinstance(reference, str) and "resourceType" not in value:
            copied["reference"] = replace(reference, f"{expression}.reference")
        return copied
    if isinstance(value, list):
        return [replace_references(part, f"{expression}[{place}]", replace) for place, part in enumerate(value)]
    return value


def check_references(resource: dict[str, Any], base: str, owner: RecordOwner) -> None:
    """Raises Invalid (400) where the resource refers to a record on this server that does not exist or that the owner
    does not see. References to types that this server does not have, and to elsewhere, are kept unread."""
    scope = scopes(owner)
    wanted: dict[str, dict[int, str]] = {name: {} for name in scope}
    issues = []
    for text, expression in references_in(resource, resource["resourceType"]):
        found = own_reference(text, base)
        if found is None or found[0] not in scope:
            continue
        if RECORD_ID.fullmatch(found[1]):
            wanted[found[0]].setdefault(int(found[1]), expression)
        else:
            issues.append(missing(expression))
    for name, keys in wanted.items():
        if keys:
            there = set(scope[name].filter(pk__in=keys).values_list("pk", flat=True))
            issues += [missing(expression) for key, expression in keys.items() if key not in there]
    if issues:
        raise Invalid(*issues[:20])


def missing(expression: str) -> Issue:
    return Issue("not-found", "There is no such resource on this server, or you have no access to it.", expression)
