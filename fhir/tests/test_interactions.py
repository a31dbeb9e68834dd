"""Read, vread, history, create, update and delete of Patient and Practitioner: https://hl7.org/fhir/R4/http.html."""

import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from audit.models import AccessLog
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from mappings.tests.factories import make_mapping
from patients.merges import merge
from patients.models import Patient
from patients.tests.factories import make_patient

FHIR = "application/fhir+json"
ASHA = {"resourceType": "Patient", "name": [{"text": "Asha Rao"}]}


def send(client: APIClient, method: str, path: str, body: Any = None, **headers: str) -> Any:
    """Send a request to /fhir; header names are written with underscores."""
    sent = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    text = "" if body is None else json.dumps(body)
    answer = client.generic(method, f"/fhir{path}", text, content_type=FHIR, **sent)  # type: ignore[arg-type]
    answer.resource = json.loads(answer.content) if answer.content else None  # type: ignore[attr-defined]
    return answer


def diagnostics(answer: Any) -> list[tuple[str, list[str]]]:
    assert answer.headers["Content-Type"] == FHIR
    assert answer.resource["resourceType"] == "OperationOutcome"
    return [(issue["code"], issue.get("expression", [])) for issue in answer.resource["issue"]]


def without_request_id(answer: Any) -> str:
    return str(answer.content.decode().replace(answer.headers["X-Request-Id"], ""))


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_patient_is_created_read_changed_and_deleted(as_alice: LoggedInClient, alice: User, slash: str) -> None:
    created = send(as_alice, "POST", f"/Patient{slash}", ASHA)
    patient = Patient.objects.get()
    at = f"/Patient/{patient.pk}{slash}"
    assert (created.status_code, patient.name, patient.created_by) == (201, "Asha Rao", alice)
    assert created.headers["Location"] == f"http://testserver/fhir/Patient/{patient.pk}/_history/1"
    assert created.headers["ETag"] == 'W/"1"'
    read = send(as_alice, "GET", at)
    assert (read.status_code, read.resource) == (200, created.resource)
    assert (read.headers["Content-Type"], read.headers["ETag"], read.headers["Cache-Control"]) == (
        FHIR, 'W/"1"', "no-store",
    )  # fmt: skip
    changed = {**read.resource, "name": [{"text": "Asha Iyer"}]}
    written = send(as_alice, "PUT", at, changed, if_match='W/"1"')
    assert (written.status_code, written.headers["ETag"]) == (200, 'W/"2"')
    assert (written.resource["name"], written.resource["meta"]["versionId"]) == ([{"text": "Asha Iyer"}], "2")
    gone = send(as_alice, "DELETE", at)
    assert (gone.status_code, gone.content) == (204, b"")
    assert send(as_alice, "DELETE", at).status_code == 204
    for method, body in (("GET", None), ("PUT", changed)):
        assert diagnostics(answer := send(as_alice, method, at, body)) == [("deleted", [])]
        assert answer.status_code == 410


def test_an_error_of_an_element_is_reported_once_though_two_columns_come_from_it(as_alice: LoggedInClient) -> None:
    answer = send(as_alice, "POST", "/Patient", {**ASHA, "birthDate": "2999-01-01"})
    assert (answer.status_code, diagnostics(answer)) == (400, [("value", ["Patient.birthDate"])])


@pytest.mark.parametrize("mark", ["\ufeff", " \ufeff", "\xef\xbb\xbf"], ids=["mark", "after blank", "in Latin-1"])
def test_a_byte_order_mark_is_refused_as_at_the_api(as_alice: LoggedInClient, mark: str) -> None:
    body = mark + json.dumps(ASHA)
    answers = [
        as_alice.generic("POST", "/fhir/Patient", body, content_type=kind) for kind in (FHIR, "application/json")
    ]
    of_api = as_alice.generic("POST", "/api/patients/", mark + '{"name": "Asha"}', "application/json")
    problem: Any = json.loads(of_api.content)
    for answer in answers:
        (issue,) = json.loads(answer.content)["issue"]
        assert (answer.status_code, issue["diagnostics"]) == (of_api.status_code, problem["detail"])
    assert (of_api.status_code, Patient.objects.count()) == (400, 0)


def test_every_version_can_be_read(as_alice: LoggedInClient) -> None:
    at = f"/Patient/{send(as_alice, 'POST', '/Patient', ASHA).resource['id']}"
    first = send(as_alice, "GET", at).resource
    send(as_alice, "PUT", at, {**first, "name": [{"text": "Asha Iyer"}]})
    second = send(as_alice, "GET", at).resource
    send(as_alice, "DELETE", at)
    assert send(as_alice, "GET", f"{at}/_history/1").resource == first
    assert send(as_alice, "GET", f"{at}/_history/2").resource == second
    assert send(as_alice, "GET", f"{at}/_history/3").status_code == 410
    assert send(as_alice, "GET", f"{at}/_history/4").status_code == 404
    history = send(as_alice, "GET", f"{at}/_history").resource
    assert (history["type"], history["link"]) == (
        "history", [{"relation": "self", "url": f"http://testserver/fhir{at}/_history"}],
    )  # fmt: skip
    assert [(one["request"], one["response"]["status"], one.get("resource")) for one in history["entry"]] == [
        ({"method": "DELETE", "url": at[1:]}, "204", None),
        ({"method": "PUT", "url": at[1:]}, "200", second),
        ({"method": "POST", "url": "Patient"}, "201", first),
    ]
    assert {one["fullUrl"] for one in history["entry"]} == {f"http://testserver/fhir{at}"}
    page = send(as_alice, "GET", f"{at}/_history?_count=2").resource
    following = next(link["url"] for link in page["link"] if link["relation"] == "next")
    rest = send(as_alice, "GET", following.removeprefix("http://testserver/fhir")).resource
    assert page["entry"] + rest["entry"] == history["entry"]
    assert [link["relation"] for link in rest["link"]] == ["self"]


def test_what_is_not_yours_reads_like_what_is_not_there(as_bob: LoggedInClient, alice: User) -> None:
    theirs = make_patient(alice)
    for method, path in (
        ("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/_history"), ("GET", "/_history/1"),
    ):  # fmt: skip
        answers = [
            send(as_bob, method, f"/Patient/{key}{path}", {**ASHA, "id": str(key)} if method == "PUT" else None)
            for key in (theirs.pk, 2**40)
        ]
        assert [one.status_code for one in answers] == [404, 404]
        assert len({without_request_id(one) for one in answers}) == 1
        assert diagnostics(answers[0]) == [("not-found", [])]


@pytest.mark.parametrize("path", ["/Patient/0", "/Patient/007", "/Patient/x", f"/Patient/{10**30}", "/Nothing"])
def test_an_id_or_a_type_that_nothing_has_is_answered_404(as_alice: LoggedInClient, path: str) -> None:
    answer = send(as_alice, "GET", path)
    assert (answer.status_code, diagnostics(answer)) == (404, [("not-found", [])])


def test_a_stale_version_is_not_overwritten(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    at, body = f"/Patient/{patient.pk}", {**ASHA, "id": str(patient.pk)}
    for tag in ('W/"2"', '"2"', 'W/"x"'):
        answer = send(as_alice, "PUT", at, body, if_match=tag)
        assert (answer.status_code, diagnostics(answer)) == (412, [("conflict", [])])
    for tag in ("*", 'W/"1"'):
        assert send(as_alice, "PUT", at, body, if_none_match=tag).status_code == 412
    assert Patient.objects.get().version == 1
    assert send(as_alice, "PUT", at, body, if_match='"1"', if_none_match='W/"2"').status_code == 200
    assert send(as_alice, "PUT", at, body, if_match="*").status_code == 200
    assert send(as_alice, "DELETE", at, if_match='W/"1"').status_code == 412


def test_a_read_of_a_known_version_is_answered_304(as_alice: LoggedInClient, alice: User) -> None:
    at = f"/Patient/{make_patient(alice).pk}"
    answer = send(as_alice, "GET", at, if_none_match='W/"1"')
    assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", 'W/"1"')
    assert send(as_alice, "GET", at, if_none_match='W/"2"').status_code == 200


def test_the_client_chooses_what_a_write_answers(as_alice: LoggedInClient) -> None:
    minimal = send(as_alice, "POST", "/Patient", ASHA, prefer="return=minimal")
    assert (minimal.status_code, minimal.content) == (201, b"")
    assert (minimal.headers["Preference-Applied"], minimal.headers["ETag"]) == ("return=minimal", 'W/"1"')
    outcome = send(as_alice, "POST", "/Patient", ASHA, prefer="return=OperationOutcome")
    assert outcome.resource["issue"][0]["severity"] == "information"
    whole = send(as_alice, "POST", "/Patient", ASHA, prefer="return=representation")
    assert whole.resource["name"] == ASHA["name"]
    bad = send(as_alice, "POST", "/Patient", ASHA, prefer="return=all")
    assert (bad.status_code, diagnostics(bad)) == (400, [("invalid", ["http.Prefer"])])


def test_a_repeated_create_with_a_key_is_executed_once(as_alice: LoggedInClient) -> None:
    answers = [send(as_alice, "POST", "/Patient", ASHA, idempotency_key="one") for _ in range(2)]
    assert answers[0].content == answers[1].content
    assert answers[1].headers["Idempotency-Replayed"] == "true"
    assert answers[0].headers["Location"] == answers[1].headers["Location"]
    assert Patient.objects.count() == 1
    reused = send(as_alice, "POST", "/Patient", {**ASHA, "gender": "female"}, idempotency_key="one")
    assert (reused.status_code, diagnostics(reused)) == (422, [("processing", [])])


@pytest.mark.parametrize(
    ("query", "accept", "status"),
    [
        ("", "application/fhir+json", 200),
        ("", "application/json", 200),
        ("", "*/*", 200),
        ("", "text/html, application/*;q=0.5", 200),
        ("", "application/fhir+json; fhirVersion=4.0", 200),
        ("", "application/fhir+json; fhirVersion=5.0", 406),
        ("", "application/fhir+xml", 406),
        ("", "application/fhir+json;q=0", 406),
        ("?_format=json", "application/fhir+xml", 200),
        ("?_format=application/fhir+json", "", 200),
        ("?_format=application/fhir%2Bjson", "", 200),
        ("?_format=xml", "", 406),
        ("?_format=application/fhir+xml", "application/fhir+json", 406),
        ("?_pretty=maybe", "", 400),
        ("?fields=id", "", 400),
    ],
)
def test_a_client_that_reads_json_is_served(
    as_alice: LoggedInClient, alice: User, query: str, accept: str, status: int
):
    answer = send(
        as_alice, "GET", f"/Patient/{make_patient(alice).pk}{query}", **({"accept": accept} if accept else {})
    )
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, FHIR)


def test_an_answer_is_indented_on_request(as_alice: LoggedInClient, alice: User) -> None:
    at = f"/Patient/{make_patient(alice).pk}"
    plain, pretty = send(as_alice, "GET", at), send(as_alice, "GET", f"{at}?_pretty=true")
    assert plain.resource == pretty.resource
    assert b"\n" not in plain.content
    assert pretty.content.startswith(b'{\n  "resourceType": "Patient"')


@pytest.mark.parametrize("content_type", ["application/fhir+xml", "text/xml", "text/plain", "application/x-ndjson"])
def test_another_type_of_body_is_refused(as_alice: LoggedInClient, content_type: str) -> None:
    answer: Any = as_alice.generic("POST", "/fhir/Patient", "<Patient/>", content_type=content_type)
    assert (answer.status_code, answer.headers["Content-Type"]) == (415, FHIR)
    assert json.loads(answer.content)["issue"][0]["code"] == "not-supported"


def test_methods_that_no_path_has_name_those_it_has(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice).pk
    for method, path, allowed in (
        ("PATCH", f"/Patient/{patient}", "GET, PUT, DELETE, HEAD, OPTIONS"),
        ("POST", f"/Patient/{patient}", "GET, PUT, DELETE, HEAD, OPTIONS"),
        ("DELETE", f"/Patient/{patient}/_history", "GET, HEAD, OPTIONS"),
        ("PUT", "/Patient", "GET, POST, HEAD, OPTIONS"),
        ("PUT", "/Patient?identifier=1", "GET, POST, HEAD, OPTIONS"),
        ("DELETE", "/Patient?identifier=1", "GET, POST, HEAD, OPTIONS"),
        ("PATCH", "/Patient?identifier=1", "GET, POST, HEAD, OPTIONS"),
    ):
        answer = send(as_alice, method, path, ASHA)
        assert (answer.status_code, diagnostics(answer)) == (405, [("not-supported", [])])
        assert {*answer.headers["Allow"].split(", ")} | {"HEAD"} == {*allowed.split(", ")} | {"HEAD"}


def test_an_update_names_its_own_record(as_alice: LoggedInClient, alice: User) -> None:
    patient, other = make_patient(alice), make_patient(alice)
    for body in (ASHA, {**ASHA, "id": str(other.pk)}):
        answer = send(as_alice, "PUT", f"/Patient/{patient.pk}", body)
        assert (answer.status_code, diagnostics(answer)) == (400, [("value", ["Patient.id"])])
    missing = send(as_alice, "PUT", f"/Patient/{2**40}", {**ASHA, "id": str(2**40)})
    assert (missing.status_code, diagnostics(missing)) == (404, [("not-found", [])])


def test_a_merged_patient_points_to_the_other_one(as_alice: LoggedInClient, alice: User) -> None:
    survivor, duplicate = make_patient(alice), make_patient(alice)
    merge(survivor, duplicate)
    read = send(as_alice, "GET", f"/Patient/{duplicate.pk}")
    assert (read.status_code, read.resource["active"]) == (200, False)
    assert read.resource["link"] == [{"other": {"reference": f"Patient/{survivor.pk}"}, "type": "replaced-by"}]
    for method in ("PUT", "DELETE"):
        body = {**ASHA, "id": str(duplicate.pk)} if method == "PUT" else None
        assert send(as_alice, method, f"/Patient/{duplicate.pk}", body).status_code == 409


def test_the_general_practitioner_is_the_primary_doctor(as_alice: LoggedInClient, alice: User) -> None:
    patient, doctor, other = make_patient(alice), make_doctor(alice, name="Dr. Rao"), make_doctor(alice)
    make_mapping(patient, doctor, is_primary=True)
    at = f"/Patient/{patient.pk}"
    read = send(as_alice, "GET", at).resource
    assert read["generalPractitioner"] == [{"reference": f"Practitioner/{doctor.pk}", "display": "Dr. Rao"}]
    assert send(as_alice, "PUT", at, read).status_code == 200
    for key, status, code in ((other.pk, 422, "business-rule"), (2**40, 400, "not-found")):
        wrong = {**read, "generalPractitioner": [{"reference": f"Practitioner/{key}"}]}
        answer = send(as_alice, "PUT", at, wrong)
        assert (answer.status_code, answer.resource["issue"][0]["code"]) == (status, code)
        assert answer.resource["issue"][0]["expression"][0].startswith("Patient.generalPractitioner[0]")


def test_a_doctor_with_patients_is_not_deleted(as_alice: LoggedInClient, alice: User) -> None:
    doctor = make_doctor(alice)
    make_mapping(make_patient(alice), doctor)
    answer = send(as_alice, "DELETE", f"/Practitioner/{doctor.pk}")
    assert (answer.status_code, diagnostics(answer)) == (409, [("conflict", [])])


def test_anybody_reads_a_practitioner_and_nobody_its_past(anonymous: APIClient, alice: User) -> None:
    at = f"/Practitioner/{make_doctor(alice, name='Dr. Meera Rao').pk}"
    read = send(anonymous, "GET", at)
    assert (read.status_code, read.resource["name"]) == (200, [{"text": "Dr. Meera Rao"}])
    for path in (f"{at}/_history", f"{at}/_history/1", f"/Patient/{make_patient(alice).pk}"):
        answer = send(anonymous, "GET", path)
        assert (answer.status_code, diagnostics(answer)) == (401, [("login", [])])
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_reads_are_in_the_access_log_as_those_of_the_api(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice).pk
    for path in ("", "/_history", "/_history/1"):
        send(as_alice, "GET", f"/Patient/{patient}{path}")
    send(as_alice, "GET", f"/Patient/{2**40}")
    rows = AccessLog.objects.order_by("pk").values_list("action", "patient_ids", "outcome")
    assert [*rows] == [
        ("patient.retrieve", [patient], 200),
        ("patient.history", [patient], 200),
        ("patient.vread", [patient], 200),
        ("patient.retrieve", [2**40], 404),
    ]


def test_the_statement_lists_what_the_paths_answer(anonymous: APIClient) -> None:
    statement = send(anonymous, "GET", "/metadata").resource
    assert (statement["resourceType"], statement["fhirVersion"], statement["kind"]) == (
        "CapabilityStatement", "4.0.1", "instance",
    )  # fmt: skip
    resources = {one["type"]: [code["code"] for code in one["interaction"]] for one in statement["rest"][0]["resource"]}
    interactions = ["read", "vread", "update", "delete", "history-instance", "create", "search-type"]
    assert resources == {
        "Patient": interactions,
        "Practitioner": interactions,
        "CareTeam": ["read", "vread", "history-instance", "search-type"],
        "AuditEvent": ["read", "search-type"],
        "Provenance": ["read", "search-type"],
    }
