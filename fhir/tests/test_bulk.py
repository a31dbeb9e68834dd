"""$export: the FHIR Bulk Data Access IG (https://hl7.org/fhir/uv/bulkdata/STU2/export.html)."""

import datetime
import json
from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.parse import quote

import psycopg2
import pytest
from django.db import connection
from django.utils import timezone
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.test import APIClient

from accounts.delegations.models import Delegation
from accounts.models import LoginSession, User
from audit.models import AccessLog
from conftest import LoggedInClient, logged_in
from doctors.tests.factories import make_doctor
from fhir.models import BulkExport
from fhir.tests.test_data_set import faults
from fhir.tests.test_interactions import diagnostics, send, without_request_id
from healthcare.exports import stream
from healthcare.tests.live import LiveServer
from mappings.tests.factories import make_mapping, make_past_mapping
from patients.erasure import erase
from patients.merges import merge
from patients.models import Patient
from patients.tests.factories import make_patient

ASYNC = {"prefer": "respond-async"}
LOCAL = "http://testserver/fhir"
ASHA = {
    "resourceType": "Patient",
    "name": [{"use": "official", "family": "Rao", "given": ["Asha"]}],
    "birthDate": "1992-03",
    "maritalStatus": {"text": "married"},
}


def begin(client: APIClient, query: str = "", **headers: str) -> str:
    """The path of the status of a new export."""
    answer = send(client, "GET", f"/$export{query}", **{**ASYNC, **headers})
    assert (answer.status_code, answer.content) == (202, b""), answer.content
    location: str = answer.headers["Content-Location"].removeprefix(LOCAL)
    return location


def files_of(client: APIClient, path: str, **headers: str) -> dict[str, list[dict[str, Any]]]:
    """The resources of the files of an export, by type."""
    answer = send(client, "GET", path, **headers)
    assert answer.status_code == 200, answer.content
    found = {}
    for file in answer.resource["output"]:
        assert file["url"] == f"{LOCAL}{path}/{file['type']}"
        found[file["type"]] = lines_of(client, f"{path}/{file['type']}", **headers)
        assert len(found[file["type"]]) == file["count"]
    return found


def lines_of(client: APIClient, path: str, **headers: str) -> list[dict[str, Any]]:
    answer: Any = client.get(f"/fhir{path}", **{f"HTTP_{name.upper()}": value for name, value in headers.items()})  # type: ignore[arg-type]
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/fhir+ndjson")
    return [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]


def names(resources: list[dict[str, Any]]) -> list[str]:
    return [resource["name"][0]["text"] for resource in resources]


def instant(at: datetime.datetime) -> str:
    return quote(at.isoformat())


@pytest.fixture
def records(as_alice: LoggedInClient, alice: User, bob: User) -> dict[str, Patient]:
    """Patients of alice in every state, and one of bob."""
    send(as_alice, "POST", "/Patient", ASHA)
    found = {name: make_patient(alice, name=name) for name in ("Ben", "Ben's duplicate", "Gone")}
    found["Asha"] = Patient.objects.get(name="Asha Rao")
    rao, iyer = make_doctor(alice, name="Dr. Rao"), make_doctor(bob, name="Dr. Iyer")
    make_mapping(found["Asha"], rao, is_primary=True, role="surgeon")
    make_past_mapping(found["Asha"], iyer)
    make_mapping(found["Ben's duplicate"], iyer)
    merge(found["Ben"], found["Ben's duplicate"])
    make_mapping(found["Gone"], rao)
    as_alice.delete(f"/api/patients/{found['Gone'].pk}/")
    make_mapping(make_patient(bob, name="Of bob"), rao)
    return found


def test_the_files_have_what_reads_answer(as_alice: LoggedInClient, records: dict[str, Patient]) -> None:
    path = begin(as_alice, "?_outputFormat=ndjson")
    answer = send(as_alice, "GET", path)
    export = BulkExport.objects.get()
    expires = (export.created_at + datetime.timedelta(days=1)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert (answer.headers["Content-Type"], answer.headers["Expires"]) == ("application/json", expires)
    moment = answer.resource.pop("transactionTime")
    assert datetime.datetime.fromisoformat(moment) == export.created_at
    assert answer.resource == {
        "request": f"{LOCAL}/$export?_outputFormat=ndjson",
        "requiresAccessToken": True,
        "output": [
            {"type": "Patient", "url": f"{LOCAL}{path}/Patient", "count": 3},
            {"type": "Practitioner", "url": f"{LOCAL}{path}/Practitioner", "count": 2},
            {"type": "CareTeam", "url": f"{LOCAL}{path}/CareTeam", "count": 2},
        ],
        "error": [],
    }
    files = files_of(as_alice, path)
    keys = [records[name].pk for name in ("Ben's duplicate", "Ben", "Asha")]
    assert [resource["id"] for resource in files["Patient"]] == [str(key) for key in keys]
    assert [resource["id"] for resource in files["CareTeam"]] == [str(keys[1]), str(keys[2])]
    for resources in files.values():
        for resource in resources:
            at = f"/{resource['resourceType']}/{resource['id']}"
            assert (send(as_alice, "GET", at).resource, faults(resource)) == (resource, [])
    [primary] = files["Patient"][2]["generalPractitioner"]
    assert (primary["display"], files["Patient"][0]["active"]) == ("Dr. Rao", False)


def test_the_files_show_the_moment_of_the_kick_off(
    as_alice: LoggedInClient, alice: User, records: dict[str, Patient]
) -> None:
    path = begin(as_alice)
    before = files_of(as_alice, path)
    asha = records["Asha"].pk
    as_alice.patch(f"/api/patients/{asha}/", {"name": "Changed"})
    for mapping in as_alice.get(f"/api/mappings/{asha}/").json():
        as_alice.delete(f"/api/mappings/{mapping['mapping']}/")
    make_mapping(records["Ben"], make_doctor(alice, name="Dr. New"), is_primary=True)
    make_patient(alice, name="New")
    as_alice.delete(f"/api/patients/{records['Ben'].pk}/")
    assert files_of(as_alice, path) == before
    erase(asha, reason="asked", account="tests")
    after = files_of(as_alice, path)
    left = {name: [one for one in before[name] if one["id"] != str(asha)] for name in ("Patient", "CareTeam")}
    assert after == {**before, **left}


def test_types_and_a_time_select_resources(as_alice: LoggedInClient, records: dict[str, Patient]) -> None:
    assert files_of(as_alice, begin(as_alice, "?_type=CareTeam&_type=Patient")).keys() == {"Patient", "CareTeam"}
    path = begin(as_alice, "?_type=Observation,Patient&_typeFilter=x", prefer="respond-async, handling=lenient")
    assert files_of(as_alice, path).keys() == {"Patient"}
    assert send(as_alice, "GET", path).resource["request"] == f"{LOCAL}/$export?_type=Observation%2CPatient"
    assert send(as_alice, "GET", f"{path}/CareTeam").status_code == 404
    moment = send(as_alice, "GET", path).resource["transactionTime"]
    since = f"?_since={quote(moment)}"
    assert files_of(as_alice, begin(as_alice, since)) == {}
    as_alice.patch(f"/api/patients/{records['Ben'].pk}/", {"name": "Benjamin"})
    assert names(files_of(as_alice, begin(as_alice, since))["Patient"]) == ["Benjamin"]
    [mapping] = as_alice.get(f"/api/mappings/{records['Asha'].pk}/").json()
    as_alice.delete(f"/api/mappings/{mapping['mapping']}/")
    files = files_of(as_alice, begin(as_alice, since))
    assert [team["id"] for team in files.pop("CareTeam")] == [str(records["Asha"].pk)]
    assert files.keys() == {"Patient"}


@pytest.mark.parametrize(
    ("query", "headers", "place"),
    [
        ("", {}, "http.Prefer"),
        ("", {"prefer": "handling=lenient"}, "http.Prefer"),
        ("?_type=AuditEvent", ASYNC, "http._type"),
        ("?_type=", ASYNC, "http._type"),
        ("?_since=2026-01-31", ASYNC, "http._since"),
        ("?_outputFormat=csv", ASYNC, "http._outputFormat"),
        ("?_typeFilter=Patient", ASYNC, "http._typeFilter"),
    ],
)
def test_what_a_kick_off_does_not_understand_is_refused(
    as_alice: LoggedInClient, query: str, headers: dict[str, str], place: str
) -> None:
    answer = send(as_alice, "GET", f"/$export{query}", **headers)
    assert (answer.status_code, diagnostics(answer)[0][1]) == (400, [place])
    assert not BulkExport.objects.exists()


def test_formats(as_alice: LoggedInClient, alice: User) -> None:
    make_patient(alice)
    for name in ("application/fhir%2Bndjson", "application/fhir+ndjson", "application/ndjson"):
        path = begin(as_alice, f"?_outputFormat={name}")
    for accepted in ("application/fhir+ndjson", "application/fhir+json", "*/*"):
        assert lines_of(as_alice, f"{path}/Patient", accept=accepted)
    assert send(as_alice, "GET", f"{path}/Patient", accept="text/csv").status_code == 406
    assert send(as_alice, "GET", "/$export", accept="application/fhir+ndjson", **ASYNC).status_code == 406
    head: Any = as_alice.head(f"/fhir{path}/Patient")
    assert (head.status_code, b"".join(head.streaming_content)) == (200, b"")
    assert head.headers["Content-Disposition"] == 'attachment; filename="Patient.ndjson"'
    assert send(as_alice, "POST", "/$export", {}).headers["Allow"] == "GET, HEAD, OPTIONS"


def test_an_export_is_for_its_caller_alone(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User, make_user: Callable[..., User]
) -> None:
    make_patient(alice, name="Of alice")
    path = begin(as_alice)
    Delegation.objects.create(owner=alice, delegate=bob, role="manage")
    for end in ("", "/Patient"):
        missing = without_request_id(send(as_bob, "GET", f"/$export/{2**40}{end}"))
        for headers in ({}, {"x_acting_for": "alice"}):
            assert without_request_id(send(as_bob, "GET", path + end, **headers)) == missing
    assert send(as_bob, "DELETE", path, x_acting_for="alice").status_code == 404
    assert names(files_of(logged_in(alice), path)["Patient"]) == ["Of alice"]  # another session of alice's

    acting = {"x_acting_for": "alice"}
    of_delegate = begin(as_bob, **acting)
    assert names(files_of(as_bob, of_delegate, **acting)["Patient"]) == ["Of alice"]
    access = AccessLog.objects.latest("id")
    assert (access.actor, access.action, access.basis) == (bob.pk, "patient.export", "delegate")
    for client, headers in ((as_bob, {}), (as_alice, {})):
        assert send(client, "GET", f"{of_delegate}/Patient", **headers).status_code == 404
    Delegation.objects.all().delete()
    assert send(as_bob, "GET", f"{of_delegate}/Patient", **acting).status_code == 403
    assert send(APIClient(), "GET", path).status_code == 401


def test_an_export_ends_by_request_after_a_day_and_after_ten_newer_ones(as_alice: LoggedInClient) -> None:
    cancelled, first, *_ = paths = [begin(as_alice) for _ in range(2 + BulkExport.MOST)]
    assert [send(as_alice, "GET", path).status_code for path in paths] == [404, 404] + [200] * BulkExport.MOST
    cancelled, expired = paths[2:4]
    answer = send(as_alice, "DELETE", cancelled)
    assert (answer.status_code, answer.content) == (202, b"")
    BulkExport.objects.filter(pk=expired.split("/")[-1]).update(created_at=timezone.now() - BulkExport.LIFETIME)
    for path in (cancelled, expired):
        for method, end in (("GET", ""), ("DELETE", ""), ("GET", "/Patient")):
            assert diagnostics(send(as_alice, method, path + end)) == [("not-found", [])]


def test_the_statement_names_the_operation(as_alice: LoggedInClient) -> None:
    statement = send(as_alice, "GET", "/metadata").resource
    definition = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export"
    assert statement["rest"][0]["operation"] == [{"name": "export", "definition": definition}]
    assert statement["instantiates"] == ["http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"]


@pytest.mark.django_db(transaction=True)
def test_an_export_waits_for_what_was_being_written(as_alice: LoggedInClient, alice: User) -> None:
    """Otherwise neither this export nor the next one, since this moment, would have the change."""
    patient = make_patient(alice, name="Before")
    parameters = {**connection.get_connection_params()}
    parameters.pop("cursor_factory", None)
    with closing(psycopg2.connect(**parameters)) as other:
        with other.cursor() as cursor:
            cursor.execute("UPDATE patients_patient SET name = 'Changed' WHERE id = %s", [patient.pk])
        path = begin(as_alice)
        waiting = send(as_alice, "GET", path)
        assert (waiting.status_code, waiting.content) == (202, b"")
        assert waiting.headers["Retry-After"] == "1"
        assert waiting.headers["X-Progress"] == "waiting for writes that had begun before"
        assert send(as_alice, "GET", f"{path}/Patient").status_code == 404
        other.commit()
    assert names(files_of(as_alice, path)["Patient"]) == ["Changed"]


@pytest.mark.django_db(transaction=True)
def test_a_file_is_recorded_batch_by_batch_and_ends_with_the_session(
    as_alice: LoggedInClient, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("FIRST_BATCH", 2), ("LARGEST_BATCH", 2), ("PIECE", 1)):
        monkeypatch.setattr(stream, name, value)
    keys = [make_patient(alice, name=f"P{number}").pk for number in range(5)]
    path = f"{begin(as_alice)}/Patient"
    answer: Any = as_alice.get(f"/fhir{path}")
    logged = AccessLog.objects.filter(action="patient.export", request_id=answer["X-Request-Id"]).order_by("id")
    pieces = iter(answer.streaming_content)
    assert next(pieces)
    assert [access.patient_ids for access in logged.all()] == [[], keys[3:]]
    refused = send(as_alice, "GET", path)
    assert (refused.status_code, refused.headers["Retry-After"], diagnostics(refused)) == (
        429,
        "10",
        [("throttled", [])],
    )
    assert as_alice.get("/api/patients/export/").status_code == 429
    assert len(list(pieces)) == 4
    assert [access.patient_ids for access in logged.all()] == [[], keys[3:], keys[1:3], keys[:1]]

    broken: Any = iter(as_alice.get(f"/fhir{path}").streaming_content)  # type: ignore[attr-defined]
    assert next(broken)
    LoginSession.objects.filter(pk=as_alice.login_session.pk).revoke()
    with pytest.raises(AuthenticationFailed):
        list(broken)
    assert send(as_alice, "GET", path).status_code == 401
    assert lines_of(logged_in(alice), path)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert send(logged_in(alice), "GET", path).status_code == 401


def test_a_server_sends_the_files(live: LiveServer) -> None:
    _, tokens = live.register()
    token = tokens["access"]
    for number in range(3):
        assert live.call("POST", "/api/patients/", {"name": f"P{number}"}, token).status == 201
    begun = live.call("GET", "/fhir/$export?_type=Patient", token=token, Prefer="respond-async")
    assert begun.status == 202
    path = begun.headers["Content-Location"].partition("/fhir/")[2]
    status = live.call("GET", f"/fhir/{path}", token=token)
    [file] = status.json["output"]
    answer = live.call("GET", f"/fhir/{file['url'].partition('/fhir/')[2]}", token=token)
    assert (answer.headers["Transfer-Encoding"], answer.headers["Content-Type"]) == (
        "chunked",
        "application/fhir+ndjson",
    )
    assert names([json.loads(line) for line in answer.body.splitlines()]) == ["P2", "P1", "P0"]
    assert live.call("DELETE", f"/fhir/{path}", token=token).status == 202
    assert live.call("GET", f"/fhir/{path}", token=token).status == 404
