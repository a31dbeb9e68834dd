"""Provenance: who made which version of a record (https://hl7.org/fhir/R4/provenance.html)."""

from typing import Any

from audit.history import Event, Inserted
from fhir.audit_event import user_reference
from fhir.elements import instant

DATA_OPERATIONS = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"
AUTHOR = {
    "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type", "code": "author",
    "display": "Author",
}  # fmt: skip


def write_provenance(resource_type: str, event: Event, *, deleted: bool) -> dict[str, Any]:
    """The resource of an event `with_actor_names`; `deleted` is whether its version is a deletion."""
    row: Any = event
    context = event.pgh_context
    operation = "DELETE" if deleted else "CREATE" if event.pgh_label == Inserted.label else "UPDATE"
    written = {
        "resourceType": "Provenance",
        "id": f"{resource_type.lower()}-{event.pgh_id}",
        "meta": {"lastUpdated": instant(row.pgh_created_at)},
        "target": [{"reference": f"{resource_type}/{row.id}/_history/{row.version}"}],
        "recorded": instant(row.pgh_created_at),
        "activity": {"coding": [{"system": DATA_OPERATIONS, "code": operation, "display": operation.lower()}]},
        "agent": [{"type": {"coding": [AUTHOR]}, "who": user_reference(context.get("actor"), row.actor_name)}],
    }
    if context.get("reason"):
        written["reason"] = [{"text": context["reason"]}]  # the header X-Change-Reason
    return written
