from typing import Any

from fhir.elements import Incoming, instant


def read_practitioner(r: dict[str, Any]) -> Incoming:
    return Incoming({"name": r["name"][0]["text"]} if r.get("name") else {}, {"name": "Practitioner.name[0].text"})


def keep_practitioner(r: Any, row: Any) -> str:
    return ""


def write_practitioner(row: Any) -> dict[str, Any]:
    return {
        "resourceType": "Practitioner",
        "id": str(row.id),
        "meta": {"versionId": str(row.version), "lastUpdated": instant(row.updated_at)},
        "active": True,
        "name": [{"text": row.name}],
    }
