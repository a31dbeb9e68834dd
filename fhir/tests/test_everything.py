"""Patient/<id>/$everything: https://hl7.org/fhir/R4/patient-operation-everything.html."""

from typing import Any

import pytest

from accounts.models import User
from audit.models import AccessLog
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from fhir.tests.test_interactions import diagnostics, send, without_request_id
from mappings.tests.factories import make_mapping
from patients.models import Patient
from patients.tests.factories import make_patient

RECORDS = "_type=Patient,CareTeam,Practitioner"


def kinds(bundle: dict[str, Any]) -> list[str]:
    return [entry["resource"]["resourceType"] for entry in bundle.get("entry", [])]


def next_path(bundle: dict[str, Any]) -> str | None:
    links = {link["relation"]: link["url"].removeprefix("http://testserver/fhir") for link in bundle["link"]}
    return links.get("next")


@pytest.fixture
def patient(alice: User) -> Patient:
    """Of two doctors."""
    found = make_patient(alice, name="Asha Nair")
    for name in ("Dr. Rao", "Dr. Iyer"):
        make_mapping(found, make_doctor(alice, name=name))
    make_patient(alice, name="Somebody Else")
    return found


def test_everything_is_the_patient_the_team_its_members_and_the_trail(
    as_alice: LoggedInClient, patient: Patient
) -> None:
    as_alice.get(f"/api/patients/{patient.pk}/")
    at = f"/Patient/{patient.pk}/$everything"
    answer = send(as_alice, "GET", at)
    bundle = answer.resource
    assert (answer.status_code, bundle["type"]) == (200, "searchset")
    assert bundle["link"] == [{"relation": "self", "url": f"http://testserver/fhir{at}"}]
    assert kinds(bundle) == ["Patient", "CareTeam", "Practitioner", "Practitioner", "Provenance", "AuditEvent"]
    for entry in bundle["entry"]:
        resource = entry["resource"]
        path = f"/{resource['resourceType']}/{resource['id']}"
        assert entry["fullUrl"] == f"http://testserver/fhir{path}"
        assert entry["search"] == {"mode": "match" if resource["resourceType"] == "Patient" else "include"}
        assert send(as_alice, "GET", path).resource == resource


def test_everything_of_a_patient_who_was_never_assigned_is_the_patient(as_alice: LoggedInClient, alice: User) -> None:
    key = make_patient(alice).pk
    assert kinds(send(as_alice, "GET", f"/Patient/{key}/$everything?{RECORDS}").resource) == ["Patient"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_pages_hold_everything_once(as_alice: LoggedInClient, patient: Patient, count: int) -> None:
    at = f"/Patient/{patient.pk}/$everything?{RECORDS},Provenance"
    whole = send(as_alice, "GET", at)
    path: str | None = f"{at}&_count={count}"
    entries: list[Any] = []
    while path:
        page = send(as_alice, "GET", path).resource
        assert 0 < len(page["entry"]) <= count
        entries += page["entry"]
        path = next_path(page)
    assert entries == whole.resource["entry"]


def test_type_selects_types_and_may_be_repeated(as_alice: LoggedInClient, patient: Patient) -> None:
    at = f"/Patient/{patient.pk}/$everything"
    assert kinds(send(as_alice, "GET", f"{at}?_type=CareTeam&_type=Patient").resource) == ["Patient", "CareTeam"]
    assert kinds(send(as_alice, "GET", f"{at}?_type=Practitioner").resource) == ["Practitioner"] * 2
    assert diagnostics(send(as_alice, "GET", f"{at}?_type=Observation")) == [("invalid", ["http._type"])]
    lenient = send(as_alice, "GET", f"{at}?_type=Observation,Patient", prefer="handling=lenient")
    assert kinds(lenient.resource) == ["Patient"]


def test_since_leaves_out_what_has_not_changed(as_alice: LoggedInClient, patient: Patient) -> None:
    doctor = make_doctor(patient.created_by)
    since = doctor.updated_at.isoformat().replace("+00:00", "Z")
    at = f"/Patient/{patient.pk}/$everything?{RECORDS}&_since={since}"
    assert kinds(send(as_alice, "GET", at).resource) == []
    as_alice.patch(f"/api/patients/{patient.pk}/", {"name": "Asha Iyer"})
    assert kinds(send(as_alice, "GET", at).resource) == ["Patient"]


@pytest.mark.parametrize(
    "query", ["start=2026-01-01", "end=2026-01-01", "_since=2026", "_count=x", "_cursor=x", "_type=", "other=1"]
)
def test_what_it_does_not_support_is_refused(as_alice: LoggedInClient, patient: Patient, query: str) -> None:
    answer = send(as_alice, "GET", f"/Patient/{patient.pk}/$everything?{query}")
    assert answer.status_code == 400
    assert diagnostics(answer)[0][1] == [f"http.{query.split('=')[0]}"]


def test_a_deleted_patient_is_gone_and_another_owners_is_not_there(
    as_alice: LoggedInClient, as_bob: LoggedInClient, patient: Patient
) -> None:
    at = f"/Patient/{patient.pk}/$everything"
    foreign, missing = send(as_bob, "GET", at), send(as_bob, "GET", f"/Patient/{2**40}/$everything")
    assert (foreign.status_code, missing.status_code) == (404, 404)
    assert without_request_id(foreign) == without_request_id(missing)
    as_alice.delete(f"/api/patients/{patient.pk}/")
    answer = send(as_alice, "GET", at)
    assert (answer.status_code, diagnostics(answer)) == (410, [("deleted", [])])


def test_the_read_is_recorded(as_alice: LoggedInClient, patient: Patient) -> None:
    send(as_alice, "GET", f"/Patient/{patient.pk}/$everything")
    access = AccessLog.objects.get()
    assert (access.action, access.patient_ids, access.outcome) == ("patient.everything", [patient.pk], 200)
