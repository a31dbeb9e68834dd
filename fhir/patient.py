from typing import Any

from fhir.elements import Incoming, instant


def read_patient(r: dict[str, Any]) -> Incoming:
    return Incoming({"name": r["name"][0]["text"]} if r.get("name") else {}, {"name": "Patient.name[0].text"})


def keep_patient(r: Any, row: Any, practitioner: Any = None) -> str:
    return ""


def write_patient(row: Any, *, practitioner: Any = None, survivor: Any = None) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": str(row.id),
        "meta": {"versionId": str(row.version), "lastUpdated": instant(row.updated_at)},
        "active": survivor is None,
        "name": [{"text": row.name}],
    }
