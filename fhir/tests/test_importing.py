"""The column `fhir` of exports and imports: what only FHIR clients sent survives a move to another server."""

import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from conftest import LoggedInClient
from doctors.models import Doctor
from fhir.tests.test_interactions import send
from healthcare.exports.models import ServerId
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.erasure import erase
from patients.models import Patient

pytestmark = pytest.mark.django_db
OLD_SERVER, NEW_SERVER = "11111111-2222-3333-4444-555555555555", "66666666-7777-8888-9999-000000000000"
MEDIA_TYPES = {"csv": "text/csv", "ndjson": "application/x-ndjson"}
DOCTOR = {
    "resourceType": "Practitioner",
    "name": [{"text": "Dr. Meera Rao", "given": ["Meera"], "family": "Rao"}],
    "birthDate": "1970-02",
}
PATIENT = """{"resourceType": "Patient", "contained": [{"resourceType": "Organization", "id": "o", "name": "=1; 'x"}],
 "extension": [{"url": "http://example.org/weight", "valueDecimal": 72.50}],
 "name": [{"text": "Asha Rao", "use": "usual"}], "telecom": [
  {"system": "phone", "value": "112"}, {"system": "phone", "value": "113"}, {"system": "phone", "value": "114"}],
 "birthDate": "1992-03", "_birthDate": {"id": "born"}, "managingOrganization": {"reference": "#o"},
 "generalPractitioner": [{"reference": "https://elsewhere.example/fhir/Practitioner/1"}]}"""


def export(client: APIClient, kind: str, form: str) -> str:
    answer: Any = client.get(f"/api/{kind}/export/?format={form}")
    return b"".join(answer.streaming_content).decode()


def import_file(client: APIClient, kind: str, content: str, form: str = "ndjson", **options: str) -> Any:
    query = "&".join(f"{name}={value}" for name, value in {"mode": "apply", **options}.items())
    return client.generic("POST", f"/api/{kind}/import/?{query}", content, content_type=MEDIA_TYPES[form])


def bytes_of(client: APIClient, path: str) -> str:
    """The resource as it is answered, without what the server sets."""
    text: str = send(client, "GET", path).content.decode()
    return text.partition('"meta":')[2].partition("},")[2]


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_a_move_gives_the_same_resources(
    as_alice: LoggedInClient, anonymous: APIClient, alice: User, form: str
) -> None:
    ServerId.objects.update(value=OLD_SERVER)
    old_doctor = send(as_alice, "POST", "/Practitioner", DOCTOR).resource["id"]
    created: Any = as_alice.generic("POST", "/fhir/Patient", PATIENT, content_type="application/fhir+json")
    old = json.loads(created.content)["id"]
    make_mapping(Patient.objects.get(pk=old), Doctor.objects.get(pk=old_doctor), is_primary=True)
    before = bytes_of(as_alice, f"/Patient/{old}"), bytes_of(anonymous, f"/Practitioner/{old_doctor}")
    assert '"valueDecimal":72.50' in before[0]
    doctors, patients = export(anonymous, "doctors", form), export(as_alice, "patients", form)
    mappings = export(as_alice, "mappings", form)

    erase(int(old), reason="Moved.", account="tests")
    assert as_alice.delete(f"/api/doctors/{old_doctor}/").status_code == 204
    ServerId.objects.update(value=NEW_SERVER)
    for kind, content in (("doctors", doctors), ("patients", patients), ("mappings", mappings)):
        answer = import_file(as_alice, kind, content, form)
        assert answer.json()["summary"]["created"] == 1, answer.json()
    patient, doctor = Patient.objects.get(), Doctor.objects.active().get()
    after = bytes_of(as_alice, f"/Patient/{patient.pk}"), bytes_of(anonymous, f"/Practitioner/{doctor.pk}")
    moved = before[0].replace(f'"Practitioner/{old_doctor}"', f'"Practitioner/{doctor.pk}"')
    assert (moved, before[1]) == after
    again = import_file(as_alice, "patients", export(as_alice, "patients", form), form, match="none", on_likely="hold")
    assert again.json()["summary"]["likely"] == 1
    assert Mapping.objects.get().patient == patient


def test_references_to_records_of_the_old_server_become_logical(as_alice: LoggedInClient) -> None:
    ServerId.objects.update(value=OLD_SERVER)
    doctor = send(as_alice, "POST", "/Practitioner", DOCTOR).resource["id"]
    other = send(as_alice, "POST", "/Patient", {"resourceType": "Patient", "name": [{"text": "Ben Rao"}]}).resource[
        "id"
    ]
    links = [{"other": {"reference": f"Patient/{other}", "display": "Ben"}, "type": "seealso"}]
    external = {"reference": "Organization/5"}
    body = {"resourceType": "Patient", "name": [{"text": "Asha Rao"}], "link": links, "generalPractitioner": [external]}
    patient = Patient.objects.get(pk=send(as_alice, "POST", "/Patient", body).resource["id"])
    make_mapping(patient, Doctor.objects.get(pk=doctor), is_primary=True)
    derived = {"reference": f"Practitioner/{doctor}"}
    sent = {**body, "id": str(patient.pk), "generalPractitioner": [derived, external]}
    assert send(as_alice, "PUT", f"/Patient/{patient.pk}", sent).status_code == 200
    file = "".join(line for line in export(as_alice, "patients", "ndjson").splitlines(True) if "Asha" in line)
    imported = {"match": "none", "on_likely": "create"}

    assert import_file(as_alice, "patients", file, **imported).status_code == 200
    same = Patient.objects.latest("pk")
    patient.refresh_from_db()
    assert same.fhir == patient.fhir
    assert send(as_alice, "GET", f"/Patient/{same.pk}").resource["generalPractitioner"] == [external]

    ServerId.objects.update(value=NEW_SERVER)
    assert import_file(as_alice, "patients", file, **imported).status_code == 200
    moved = send(as_alice, "GET", f"/Patient/{Patient.objects.latest('pk').pk}").resource
    identifier = {"system": f"urn:uuid:{OLD_SERVER}", "value": f"Patient/{other}"}
    assert moved["link"] == [
        {"other": {"type": "Patient", "identifier": identifier, "display": "Ben"}, "type": "seealso"}
    ]
    assert moved["generalPractitioner"] == [external]


def test_an_import_writes_the_column_of_a_record_that_exists(as_alice: LoggedInClient) -> None:
    kept = {"elements": {"maritalStatus": {"text": "married"}}, "basis": {}}
    rows = [{"name": "Asha Rao", "identifier": "7"} | more for more in ({}, {"fhir": json.dumps(kept)}, {"fhir": ""})]
    statuses = []
    for row in [*rows, rows[1]]:
        answer = import_file(as_alice, "patients", json.dumps(row), on_match="update")
        statuses += [one["status"] for one in answer.json()["results"]]
        found = send(as_alice, "GET", f"/Patient/{Patient.objects.get().pk}").resource.get("maritalStatus")
        assert found == ({"text": "married"} if len(statuses) > 1 else None)
    assert statuses == ["created", "updated", "unchanged", "unchanged"]
    cleared = import_file(as_alice, "patients", json.dumps(rows[2]), on_match="update", empty="clear")
    assert (cleared.json()["results"][0]["status"], Patient.objects.get().fhir) == ("updated", "")
    by_api = as_alice.post("/api/patients/", {"name": "Ben", "fhir": json.dumps(kept)})
    assert (by_api.status_code, by_api.json()["errors"][0]["pointer"]) == (400, "/fhir")


EXPORTED = "Write what an export has in this column, or leave it empty."
DEEP = {"url": "http://example.org/x"}
for _ in range(40):
    DEEP = {"url": "http://example.org/x", "extension": [DEEP]}  # type: ignore[dict-item]
REFUSED = {
    "an object": ({"elements": {}, "basis": {}}, "Not a valid string."),
    "a number": (7, "Not a valid string."),
    "no JSON": ("married", EXPORTED),
    "a list": ("[]", EXPORTED),
    "a resource": ('{"resourceType":"Patient","active":true}', EXPORTED),
    "more members": ('{"elements":{},"basis":{},"more":1}', EXPORTED),
    "a repeated member": ('{"elements":{},"elements":{},"basis":{}}', EXPORTED),
    "other elements": ('{"elements":[],"basis":{}}', EXPORTED),
    "another basis": ('{"elements":{},"basis":{"name":7}}', EXPORTED),
    "a basis of no group": ('{"elements":{},"basis":{"colour":"0123456789abcdef"}}', EXPORTED),
    "infinity": ('{"elements":{"maritalStatus":{"text":Infinity}},"basis":{}}', EXPORTED),
    "NUL": ('{"elements":{"maritalStatus":{"text":"a\\u0000"}},"basis":{}}', EXPORTED),
    "a deep one": (json.dumps({"elements": {"extension": [DEEP]}, "basis": {}}), EXPORTED),
    "a wrong type": (
        '{"elements":{"maritalStatus":"married"},"basis":{}}',
        "Patient.maritalStatus: Send a JSON object that is not empty.",
    ),
    "an unknown element": (
        '{"elements":{"colour":"red"},"basis":{}}', "Patient.colour: R4 does not know this element; remove it."
    ),
    "more than 64 KiB": (
        json.dumps({"elements": {"maritalStatus": {"text": "ä" * 2**15}}, "basis": {}}, ensure_ascii=False),
        "What this resource has beyond the record's own fields is larger than 64 KiB; shorten it.",
    ),
}  # fmt: skip


def test_what_no_export_has_is_an_error_of_the_row(as_alice: LoggedInClient) -> None:
    content = "\n".join(json.dumps({"name": name, "fhir": text}) for name, (text, _) in REFUSED.items())
    answer = import_file(as_alice, "patients", content)
    assert (answer.status_code, Patient.objects.count()) == (422, 0)
    assert [[(error["pointer"], error["detail"]) for error in row["errors"]] for row in answer.json()["results"]] == [
        [("/fhir", detail)] for _, detail in REFUSED.values()
    ]
