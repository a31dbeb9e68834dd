"""Parts of resources: `_summary` and `_elements` (https://hl7.org/fhir/R4/search.html#summary)."""

from collections.abc import Set
from typing import Any

from fhir.search.query import Query

ALWAYS = frozenset({"resourceType", "id", "meta", "implicitRules", "modifierExtension"})
SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
# The elements that R4 marks as part of a summary, by resource type, and those that every resource of it must have.
SUMMARY_ELEMENTS = {
    "Patient": {
        "identifier", "active", "name", "telecom", "gender", "birthDate", "deceased", "address",
        "managingOrganization", "link",
    },
    "Practitioner": {"identifier", "active", "name", "telecom", "address", "gender", "birthDate"},
    "CareTeam": {
        "identifier", "status", "category", "name", "subject", "encounter", "period", "participant",
        "managingOrganization",
    },
    "AuditEvent": {"type", "subtype", "action", "period", "recorded", "outcome", "outcomeDesc", "purposeOfEvent"},
    "Provenance": {"target", "recorded"},
}  # fmt: skip
MANDATORY_ELEMENTS = {
    "AuditEvent": {"type", "recorded", "agent", "source"},
    "Provenance": {"target", "recorded", "agent"},
}


def subset(resource: dict[str, Any], query: Query) -> dict[str, Any]:
    """The parts of a resource that the query asks for, marked as a subset where that is not all of it."""
    kind = resource["resourceType"]
    mandatory = ALWAYS | MANDATORY_ELEMENTS.get(kind, set())
    wanted: Set[str]
    if query.elements:
        wanted = mandatory | query.elements
    elif query.summary == "true":
        wanted = mandatory | SUMMARY_ELEMENTS[kind]
    elif query.summary == "text":
        wanted = mandatory | {"text"}
    elif query.summary == "data":
        wanted = {element_of(name) for name in resource} - {"text"}
    else:
        return resource
    part = {name: value for name, value in resource.items() if element_of(name) in wanted}
    meta = part.get("meta", {})
    return part | {"meta": {**meta, "tag": [*meta.get("tag", ()), SUBSETTED]}}


def search_entry(base: str, resource: dict[str, Any], mode: str) -> dict[str, Any]:
    """The entry of a searchset with this resource, or a part of it."""
    url = f"{base}/{resource['resourceType']}/{resource['id']}"
    return {"fullUrl": url, "resource": resource, "search": {"mode": mode}}


def element_of(name: str) -> str:
    """The name of the element of a member: `_birthDate` holds its extensions, `deceasedBoolean` is `deceased`."""
    name = name.removeprefix("_")
    return "deceased" if name.startswith("deceased") else name
