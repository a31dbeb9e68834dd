"""Merge and unmerge over HTTP."""

from typing import Any

from conftest import LoggedInClient
from patients.models import Patient

MISSING = {"pointer": "/duplicate", "code": "does_not_exist", "detail": "There is no such record."}


def merge(client: LoggedInClient, survivor: Patient, duplicate: Patient, **headers: Any) -> Any:
    return client.post(f"/api/patients/{survivor.pk}/merge/", {"duplicate": duplicate.pk}, **headers)


def unmerge(client: LoggedInClient, survivor: Patient, duplicate: Patient, **headers: Any) -> Any:
    return client.post(f"/api/patients/{survivor.pk}/unmerge/", {"duplicate": duplicate.pk}, **headers)


def read(client: LoggedInClient, patient: Patient) -> dict[str, Any]:
    body: dict[str, Any] = client.get(f"/api/patients/{patient.pk}/").json()
    return body


def errors(answer: Any) -> list[dict[str, str]]:
    assert answer.status_code == 400, answer.content
    found: list[dict[str, str]] = answer.json()["errors"]
    return found


def without_stamps(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in {"version", "updated_at"}}
