"""fhirpy, a client that knows nothing of this server, creates, searches, changes and follows a patient."""

from typing import Any

import pytest

from healthcare.tests.live import LiveServer

fhirpy = pytest.importorskip("fhirpy", reason="requirements-dev.txt has it")


@pytest.fixture
def client(live_server_process: LiveServer) -> Any:
    _, tokens = live_server_process.register()
    return fhirpy.SyncFHIRClient(f"{live_server_process.url}/fhir", authorization=f"Bearer {tokens['access']}")


def test_a_patient_is_created_found_changed_and_followed(client: Any) -> None:
    name = [{"family": "Rao", "given": ["Asha"]}]
    patient = client.resource("Patient", name=name, birthDate="1992-03", gender="female")
    patient.save()
    assert (patient["meta"]["versionId"], patient["name"], patient["birthDate"]) == ("1", name, "1992-03")
    client.resource("Patient", name=[{"text": "Ravi Rao"}], gender="male").save()

    women = client.resources("Patient").search(family="rao", gender="female", birthdate__ge="1990")
    assert [found.id for found in women.fetch_all()] == [patient.id]
    assert client.resources("Patient").search(name="rao").count() == 2
    assert [found["name"] for found in client.resources("Patient").sort("name").limit(1).fetch_all()] == [
        name, [{"text": "Ravi Rao"}],
    ]  # fmt: skip

    patient["telecom"] = [{"system": "phone", "value": "+91 80 5550 0100"}]
    patient.save()
    again = client.reference("Patient", patient.id).to_resource()
    assert (again["meta"]["versionId"], again["telecom"]) == ("2", patient["telecom"])

    history = client.execute(f"Patient/{patient.id}/_history", method="get")
    assert [entry["resource"]["meta"]["versionId"] for entry in history["entry"]] == ["2", "1"]
    patient.delete()
    with pytest.raises(fhirpy.base.exceptions.ResourceNotFound):
        client.reference("Patient", patient.id).to_resource()


def test_an_error_is_an_outcome_that_it_reads(client: Any) -> None:
    with pytest.raises(fhirpy.base.exceptions.OperationOutcome) as raised:
        client.resource("Patient", gender="female").save()
    [issue] = raised.value.resource["issue"]
    assert (issue["code"], issue["expression"]) == ("required", ["Patient.name"])


def test_a_condition_in_the_url_of_a_create_makes_no_silent_duplicate(client: Any) -> None:
    """As fhirpy's `get_or_create` sends it; R4 has the condition in the header If-None-Exist."""
    number = {"system": "https://uidai.gov.in", "value": "2345 6789 0124"}
    patient = client.resource("Patient", name=[{"text": "Asha Rao"}], identifier=[number])
    same = client.resources("Patient").search(identifier=f"{number['system']}|{number['value']}")
    with pytest.raises(fhirpy.base.exceptions.OperationOutcome):
        same.get_or_create(patient)
    assert same.count() == 0
