"""Asks for the file of a person, and reads it."""

import io
import json
import zipfile
from typing import Any

from conftest import PASSWORD, LoggedInClient
from patients.models import Patient

PARTS = ["accesses.json", "care_team.json", "history.json", "index.html", "manifest.json", "patient.json", "seals.json"]


def ask(client: LoggedInClient, patient: Patient | int, password: str = PASSWORD, **headers: Any) -> Any:
    key = patient if isinstance(patient, int) else patient.pk
    return client.post(f"/api/patients/{key}/file/", {"current_password": password}, **headers)


def open_file(content: bytes) -> dict[str, str]:
    """The text of each part, by its name."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}


def read_file(client: LoggedInClient, patient: Patient) -> dict[str, Any]:
    """The JSON parts by their names without the ending, and the page as `index`."""
    answer = ask(client, patient)
    assert answer.status_code == 200, answer.content
    return parsed(answer.content)


def parsed(content: bytes) -> dict[str, Any]:
    parts = open_file(content)
    assert sorted(parts) == PARTS
    documents: dict[str, Any] = {
        name.removesuffix(".json"): json.loads(text) for name, text in parts.items() if name.endswith(".json")
    }
    return documents | {"index": parts["index.html"]}
