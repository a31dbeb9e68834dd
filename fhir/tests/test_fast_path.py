"""The fast path answers read and search in one statement, byte for byte what standard DRF answers, and records the same
access."""

import json
import re
from datetime import date
from typing import Any

import pytest
from django.test.utils import override_settings
from rest_framework.test import APIClient

from accounts.delegations.models import Delegation
from accounts.models import LoginSession, User
from audit.models import AccessLog
from conftest import LoggedInClient, logged_in
from doctors.tests.factories import make_doctor
from fhir.tests.test_interactions import send
from fhir.views import PatientFhirViewSet
from healthcare.fastpath.public_cache import answers
from healthcare.fastpath.tests.test_plans import MANY, copy, plan_of, rows_read
from healthcare.fastpath.tests.test_reads import reads
from healthcare.fastpath.views import FastActions, fast_views
from mappings.tests.factories import make_mapping
from patients.merges import merge
from patients.models import Patient
from patients.tests.factories import make_patient

MISSING = 2**40
FULL: dict[str, Any] = {
    "resourceType": "Patient",
    "meta": {"tag": [{"system": "https://elsewhere.example/tags", "code": "vip"}]},
    "extension": [{"url": "https://elsewhere.example/weight", "valueDecimal": 72.50}],
    "identifier": [{"use": "usual", "value": "A-1"}, {"system": "urn:oid:1.2.3", "value": "77"}],
    "active": True,
    "name": [{"text": "Zoë \u2028 Brontë", "family": "Brontë", "given": ["Zoë"]}],
    "telecom": [{"system": "phone", "value": "+91 80 4112 0001"}, {"system": "email", "value": "zoe@example.org"}],
    "gender": "female",
    "birthDate": "1991-05",
    "deceasedDateTime": "2026-02-28T10:00:00Z",
    "address": [{"text": "1 Church Street"}],
    "maritalStatus": {"text": "married"},
    "contact": [{"relationship": [{"text": "aunt"}], "name": {"text": "Rhea"}}],
    "communication": [{"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": "hi"}]}, "preferred": True}],
}


@pytest.fixture(autouse=True)
def fast_path_is_on(settings: Any) -> None:
    settings.FAST_PATH = "on"
    settings.DB_PREPARED_STATEMENTS = True
    answers.clear()


def accesses() -> list[Any]:
    return [*AccessLog.objects.order_by("pk").values("actor", "action", "patient_ids", "basis", "outcome")]


def compare(client: APIClient, path: str, served_by: str = "fast", *, normalized: bool = False, **headers: str) -> Any:
    """The status, the headers and the body of the fast path, compared with those of standard DRF, and what both record.

    The fast path sends one statement for a request that it serves, none for a caller without a token, and before a
    search one that normalizes its texts.
    """
    recorded = len(accesses())
    headers = {name.replace("_", "-"): text for name, text in headers.items()}
    answer = client.get(f"/fhir{path}", headers=headers)
    assert getattr(answer.wsgi_request, "served_by", "standard") == served_by, (path, headers)
    fast = accesses()[recorded:]
    answered, statements = reads(client, f"/fhir{path}", **headers)
    assert served_by == "standard" or len(statements) <= 1 + normalized, (path, statements)
    recorded = len(accesses())
    with override_settings(FAST_PATH="off"):
        standard, _ = reads(client, f"/fhir{path}", **headers)
    assert without_request_id(answered) == without_request_id(standard), path
    assert fast == accesses()[recorded:], path
    return answered


def without_request_id(answered: Any) -> Any:
    """An OperationOutcome has the id of the request."""
    status, headers, content = answered
    return status, headers, re.sub(rb'(?<="OperationOutcome","id":")[^"]*', b"", content)


def test_every_opted_in_action_is_served() -> None:
    """`manage.py check` warns of an action that is not. Here it is an error."""
    served = {
        (fast.viewset.__name__, action): [obstacle.member for obstacle in obstacles]
        for fast in fast_views()
        for action, obstacles in fast.obstacles.items()
        if fast.viewset.__module__ == "fhir.views"
    }
    assert served == {
        ("PatientFhirViewSet", "retrieve"): [],
        ("PatientFhirViewSet", "list"): [],
        ("PractitionerFhirViewSet", "retrieve"): [],
        ("PractitionerFhirViewSet", "list"): [],
    }


@pytest.mark.parametrize(
    "member", ["represent", "is_deleted", "get_object", "initial", "answer_version", "get_exception_handler"]
)
def test_a_subclass_that_overrides_a_member_is_served_by_standard_drf(member: str) -> None:
    other = type("Other", (PatientFhirViewSet,), {member: lambda *_, **__: None})
    [obstacle] = FastActions(other, {"get": "retrieve"}, {}).obstacles["retrieve"]
    assert obstacle.member == f"Other.{member}"


def test_a_resource_that_needs_more_than_the_row_is_served_by_standard_drf() -> None:
    other = type("Other", (PatientFhirViewSet,), {"related_values": {}})
    [obstacle] = FastActions(other, {"get": "retrieve"}, {}).obstacles["retrieve"]
    assert (obstacle.member, "practitioner_id" in obstacle.hint) == ("Other.resource_of", True)


def test_both_paths_read_a_patient_alike(as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User) -> None:
    full = int(send(as_alice, "POST", "/Patient", FULL).resource["id"])
    plain, deleted, duplicate = make_patient(alice), make_patient(alice), make_patient(alice, gender="F")
    make_mapping(Patient.objects.get(pk=full), make_doctor(alice, name="Dr. Second"), is_primary=False)
    make_mapping(Patient.objects.get(pk=full), make_doctor(alice, name="Dr. First"), is_primary=True)
    send(as_alice, "DELETE", f"/Patient/{deleted.pk}")
    merge(plain, duplicate)
    status, headers, content = compare(as_alice, f"/Patient/{full}")
    assert (status, b"Dr. First" in content, b"1991-05" in content, b"72.5" in content) == (200, True, True, True)
    assert (headers["ETag"], headers["Content-Type"]) == ('W/"1"', "application/fhir+json")
    assert b"replaced-by" in compare(as_alice, f"/Patient/{duplicate.pk}/")[2]
    assert compare(as_alice, f"/Patient/{plain.pk}/", Accept="application/fhir+json; fhirVersion=4.0")[0] == 200
    assert compare(as_alice, f"/Patient/{full}?_format=json")[0] == 200
    for tag, expected in (('W/"1"', 304), ('"1"', 304), ("*", 304), ('W/"2"', 200), ('"9", W/"1"', 304)):
        assert compare(as_alice, f"/Patient/{full}", If_None_Match=tag)[0] == expected, tag
    assert compare(as_alice, f"/Patient/{MISSING}")[0] == 404
    assert compare(as_bob, f"/Patient/{full}")[0] == 404
    assert compare(as_bob, f"/Patient/{full}", If_None_Match="*")[0] == 404
    left: list[tuple[str, dict[str, Any], int]] = [
        ("?_pretty=true", {}, 200), ("?_elements=name", {}, 400), ("?_format=xml", {}, 406), ("?_count=1", {}, 400),
        ("", {"Accept": "application/fhir+xml"}, 406), ("", {"If_Match": 'W/"2"'}, 200),
        ("", {"Prefer": "return=minimal"}, 200), ("", {"Prefer": "x y"}, 400), ("", {"If_None_Match": "1"}, 400),
    ]  # fmt: skip
    for query, sent, expected in left:
        assert compare(as_alice, f"/Patient/{full}{query}", "standard", **sent)[0] == expected, (query, sent)
    assert compare(as_alice, f"/Patient/{deleted.pk}", "standard")[0] == 410


def test_both_paths_refuse_callers_alike(
    as_alice: LoggedInClient, anonymous: APIClient, alice: User, bob: User
) -> None:
    path = f"/Patient/{make_patient(alice).pk}"
    assert compare(anonymous, path)[0] == 401
    Delegation.objects.create(owner=alice, delegate=bob, role="read")
    as_bob = logged_in(bob)
    assert compare(as_bob, path, "standard", X_Acting_For="nobody")[0] == 403
    as_bob.get(f"/fhir{path}", headers={"X-Acting-For": "alice"})  # from now on the owner is known
    status, headers, _ = compare(as_bob, path, X_Acting_For="alice")
    assert (status, headers["X-Acting-For"], accesses()[-1]["basis"]) == (200, "alice", "delegate")
    LoginSession.objects.filter(user=alice).delete()
    assert compare(as_alice, path)[0] == 401


def test_both_paths_read_a_practitioner_alike(as_alice: LoggedInClient, anonymous: APIClient, alice: User) -> None:
    doctor, deleted = make_doctor(alice, name="Dr. \u2028 Line"), make_doctor(alice)
    send(as_alice, "DELETE", f"/Practitioner/{deleted.pk}")
    for client in (as_alice, anonymous):
        assert compare(client, f"/Practitioner/{doctor.pk}")[0] == 200
        assert compare(client, f"/Practitioner/{doctor.pk}", If_None_Match='W/"1"')[0] == 304
        assert compare(client, f"/Practitioner/{MISSING}/")[0] == 404
        assert compare(client, f"/Practitioner/{deleted.pk}", "standard")[0] == 410
        assert compare(client, f"/Practitioner/{doctor.pk}?_format=xml", "standard")[0] == 406
    assert accesses() == []


# Each finds some of `make_patients` and not all; those that need no statement to normalize a text.
PATIENT_SEARCHES = [
    "_id={first}", "_id={first},{last}", "gender=female", "gender=female,unknown&birthdate=ge1990", "birthdate=1992-03",
    "birthdate=ne1992-03-14", "deceased=true", "active=true&_id={last}", "_lastUpdated=gt{moment}",
    "general-practitioner=Practitioner/{doctor}", "gender:missing=true", "general-practitioner:missing=false",
]  # fmt: skip
TEXT_SEARCHES = [
    "name=asha", "name=RAO&gender=female", "name:contains=sh", "name:exact=Asha+Rao", "family=rao,iyer",
    "given=zo\u00eb", "identifier=a-1", "identifier=urn:oid:1.2.3|77", "identifier=|A-1",
    "phone=8041120001", "email=zoe@example.org", "telecom=zoe@example.org", "address=church", "name=rao&name=asha",
]  # fmt: skip
SHAPES = [
    "", "_count=2", "_sort=name&_count=2", "_sort=-_lastUpdated&_count=3", "_elements=name,gender", "_summary=true",
    "_summary=data&_format=json", "_summary=text", "_totalMethod=count", "_total=none",
]  # fmt: skip
STANDARD_SEARCHES = {
    "_total=accurate": 200, "_summary=count": 200, "_count=0": 200, "active=false": 200, "_sort=_id": 200,
    "_sort=name,_lastUpdated": 200,
    "_pretty=true": 200, "_id=x": 200, "_format=xml": 406, "nothing=1": 400, "gender=x": 400, "_count=x": 400,
    "_cursor=x": 400, "_query=x": 400, "_sort=name&_sort=name": 400, "name=%00": 400,
}  # fmt: skip


def make_patients(as_alice: LoggedInClient, alice: User) -> dict[str, Any]:
    """Patients of whom no two are alike, and what the searches name."""
    first = int(send(as_alice, "POST", "/Patient", FULL).resource["id"])
    doctor = make_doctor(alice, name="Dr. Asha Iyer", phone="+91 80 4112 0001", license_number="A-1")
    for number, name in enumerate(["Asha Rao", "Asha Iyer", "Vikram Rao", "Asha Rao"]):
        born: dict[str, Any] = {"birth_date": date(1990 + number, 3, 14), "birth_year": 1990 + number}
        patient = make_patient(alice, name=name, gender="MFUF"[number], identifier=f"A-{number}", **born)
        if number % 2:
            make_mapping(patient, doctor, is_primary=True)
    send(as_alice, "DELETE", f"/Patient/{make_patient(alice).pk}")
    merge(patient, make_patient(alice))
    moment = Patient.objects.get(pk=first).updated_at.isoformat().replace("+00:00", "Z")
    return {"first": first, "last": patient.pk, "doctor": doctor.pk, "moment": moment}


def entries_of(answered: Any) -> list[Any]:
    entries: list[Any] = json.loads(answered[2]).get("entry", [])
    return entries


def pages_of(client: APIClient, path: str, **options: Any) -> list[list[Any]]:
    """The entries of all pages, each compared."""
    pages: list[list[Any]] = []
    while path:
        answered = compare(client, path, **options)
        assert answered[0] == 200
        pages.append(entries_of(answered))
        links = {link["relation"]: link["url"] for link in json.loads(answered[2])["link"]}
        path = links.get("next", "").removeprefix("http://testserver/fhir")
    return pages


def test_both_paths_search_patients_alike(as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User) -> None:
    named = make_patients(as_alice, alice)
    everything = len(entries_of(compare(as_alice, "/Patient")))
    assert everything == 5
    for query in SHAPES:
        pages = pages_of(as_alice, f"/Patient?{query}")
        assert sum(map(len, pages)) == everything, query
        assert (len(pages) > 1) == ("_count" in query), query
    for query in [*PATIENT_SEARCHES, *TEXT_SEARCHES]:
        found = pages_of(as_alice, f"/Patient/?_count=1&{query}".format(**named), normalized=query in TEXT_SEARCHES)
        assert 0 < len([page for page in found if page]) < everything or "birthdate=ne" in query, query
    for query, status in STANDARD_SEARCHES.items():
        assert compare(as_alice, f"/Patient?{query}", "standard")[0] == status, query
    assert entries_of(compare(as_bob, "/Patient")) == entries_of(compare(as_bob, "/Patient?gender=female")) == []
    assert entries_of(compare(as_bob, "/Patient?name=asha", normalized=True)) == []
    assert accesses()[-1]["patient_ids"] == []


def test_both_paths_search_practitioners_alike(as_alice: LoggedInClient, anonymous: APIClient, alice: User) -> None:
    named = make_patients(as_alice, alice)
    make_doctor(alice, name="Dr. Zed", email="zed@example.org")
    for client in (as_alice, anonymous):
        assert [len(page) for page in pages_of(client, "/Practitioner?_count=1&_sort=name")] == [1, 1]
        assert len(entries_of(compare(client, "/Practitioner"))) == 2
        assert len(entries_of(compare(client, f"/Practitioner?_id={named['doctor']}"))) == 1
        for query in ("name=iyer", "identifier=a-1", "phone=8041120001", "email=zed@example.org"):
            found = entries_of(compare(client, f"/Practitioner?{query}", normalized=True))
            assert len(found) == 1, query
    assert "Practitioner" not in str(accesses())


def test_a_delegate_searches_the_patients_of_the_owner_by_one_statement(alice: User, bob: User) -> None:
    patient = make_patient(alice, name="Asha Rao", gender="F")
    Delegation.objects.create(owner=alice, delegate=bob, role="read")
    as_bob = logged_in(bob)
    as_bob.get("/fhir/Patient", headers={"X-Acting-For": "alice"})  # from now on the owner is known
    for query, normalized in (("", False), ("?gender=female", False), ("?name=asha", True)):
        found = entries_of(compare(as_bob, f"/Patient{query}", normalized=normalized, X_Acting_For="alice"))
        assert [entry["resource"]["id"] for entry in found] == [str(patient.pk)], query
        assert accesses()[-1] == {
            "actor": bob.pk, "action": "patient.list", "patient_ids": [patient.pk], "basis": "delegate", "outcome": 200,
        }  # fmt: skip


def test_verify_finds_no_difference(
    as_alice: LoggedInClient, alice: User, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.FAST_PATH = "verify"
    named = make_patients(as_alice, alice)
    for path in (f"/Patient/{named['first']}", "/Patient", "/Patient?name=asha", "/Practitioner"):
        assert send(as_alice, "GET", path).status_code == 200
    assert [one.getMessage() for one in caplog.records if one.name == "healthcare.fastpath"] == []


@pytest.mark.parametrize("has_many", ["alice", "bob"])
def test_a_read_and_a_page_scan_few_more_rows_than_they_return(
    as_alice: LoggedInClient, alice: User, bob: User, has_many: str
) -> None:
    patients = [make_patient(alice, name=f"N{number}") for number in range(25)]
    doctor = make_doctor(alice)  # one: a table of a few is scanned, not searched by its index
    for patient in patients:
        make_mapping(patient, doctor, is_primary=True)
    owner = alice if has_many == "alice" else bob
    copy(patients[0], f"generate_series(1, {MANY})", created_by_id=str(owner.pk))
    for url in (f"/fhir/Patient/{patients[1].pk}", "/fhir/Patient?_count=20", "/fhir/Patient?_count=20&_sort=-name"):
        plan = plan_of(as_alice, url)
        assert 0 < rows_read(plan) < 150, json.dumps(plan, indent=1)


def replace_text(get_response: Any) -> Any:
    """Middleware that changes the text of an answer and renders it again."""

    def middleware(request: Any) -> Any:
        response = get_response(request)
        if isinstance(getattr(response, "data", None), str):
            response.data = response.data.replace("Brontë", "***").replace("72.5", "73.5")
            response._is_rendered = False
            response.render()
        return response

    return middleware


@pytest.mark.parametrize(("path", "token"), [("/Patient/{id}", True), ("/Patient", True), ("/Patient/{id}", False)])
def test_middleware_changes_the_text_of_an_answer(
    as_alice: LoggedInClient, alice: User, settings: Any, path: str, token: bool
):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.replace_text"]
    created = send(as_alice, "post", "/Patient", FULL)
    _, _, content = compare(as_alice if token else APIClient(), path.format(id=created.resource["id"]))
    body = content.decode()
    assert ("***" in body, "73.5" in body, "Bront" in body) == (token, token, False)
