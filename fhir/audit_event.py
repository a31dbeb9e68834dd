"""AuditEvent: one row of the access log, of one of its patients (https://hl7.org/fhir/R4/auditevent.html)."""

from typing import Any

from audit.models import PatientAccess
from fhir.elements import instant

EVENT_TYPES = "http://terminology.hl7.org/CodeSystem/audit-event-type"
USERS = "urn:healthcare:user"
INTERACTIONS = "http://hl7.org/fhir/restful-interaction"
REST_TYPE = {"system": EVENT_TYPES, "code": "rest", "display": "RESTful Operation"}
PATIENT_RECORD = {
    "system": "http://dicom.nema.org/resources/ontology/DCM", "code": "110110", "display": "Patient Record",
}  # fmt: skip
PERSON = {"system": "http://terminology.hl7.org/CodeSystem/audit-entity-type", "code": "1", "display": "Person"}
PATIENT_ROLE = {"system": "http://terminology.hl7.org/CodeSystem/object-role", "code": "1", "display": "Patient"}
SERVER_SOURCE = {
    "system": "http://terminology.hl7.org/CodeSystem/security-source-type", "code": "4",
    "display": "Application Server",
}  # fmt: skip
# R4's interaction, and the code of `action`, by what a request did. R4 counts a search as E, "execute":
# https://hl7.org/fhir/R4/valueset-audit-event-action.html. Whatever is not here is an operation.
OPERATION = ("operation", "E")
INTERACTION_OF = {
    "retrieve": ("read", "R"), "vread": ("vread", "R"), "history": ("history-instance", "R"),
    "list": ("search-type", "E"), "search": ("search-type", "E"), "create": ("create", "C"), "update": ("update", "U"),
    "partial_update": ("patch", "U"), "destroy": ("delete", "D"),
}  # fmt: skip


def write_audit_event(access: PatientAccess) -> dict[str, Any]:
    """The resource of an access `with_actor_names`."""
    return {
        "resourceType": "AuditEvent",
        "id": f"{access.pk}-{access.patient_id}",
        "meta": {"lastUpdated": instant(access.at)},
        **kind_of(access),
        "recorded": instant(access.at),
        "outcome": "0" if access.outcome < 400 else "4" if access.outcome < 500 else "8",
        "outcomeDesc": f"HTTP status {access.outcome}",
        "agent": [
            {
                "role": [{"text": access.basis}],
                "who": user_reference(access.actor, access.actor_name),  # type: ignore[attr-defined]  # an annotation
                "requestor": True,
            }
        ],
        "source": {"observer": {"display": "Healthcare API"}, "type": [SERVER_SOURCE]},
        "entity": [
            {
                "what": {"reference": f"Patient/{access.patient_id}"},
                "type": PERSON,
                "role": PATIENT_ROLE,
                "detail": details_of(access),
            }
        ],
    }


def kind_of(access: PatientAccess) -> dict[str, Any]:
    """The elements `type`, `subtype` and `action`. A page of the admin and a command show records of patients."""
    *channel, done = access.action.split(".")
    if not access.actor or channel[:1] == ["admin"]:
        return {"type": PATIENT_RECORD, "action": "R"}
    interaction, action = INTERACTION_OF.get(done, OPERATION)
    return {"type": REST_TYPE, "subtype": [{"system": INTERACTIONS, "code": interaction}], "action": action}


def details_of(access: PatientAccess) -> list[dict[str, str]]:
    """What the access log says and R4 has no element for."""
    details = {"action": access.action, "request_id": access.request_id}
    return [{"type": name, "valueString": text} for name, text in details.items() if text]


def user_reference(key: int | None, name: str | None) -> dict[str, Any]:
    """A user by id and name; the id alone of one who was erased. No id is a command's, or that of a change made
    directly in the database."""
    if not key:
        return {"display": "A command, or the database"}
    display = {"display": name} if name else {}
    return {"identifier": {"system": USERS, "value": str(key)}, **display}
