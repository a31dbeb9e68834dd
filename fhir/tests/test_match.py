"""Patient/$match: whom it finds, in which grade, and what it refuses
(https://hl7.org/fhir/R4/patient-operation-match.html)."""

import datetime
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from accounts.personal_tokens.rules import create_token
from audit.models import AccessLog
from conftest import LoggedInClient
from fhir.tests.test_interactions import diagnostics, send
from patients.merges import merge
from patients.models import Patient
from patients.tests.factories import make_patient

MATCH = "/Patient/$match"
GRADE = "http://hl7.org/fhir/StructureDefinition/match-grade"
SYSTEM = "http://hospital.example/mrn"
BORN = datetime.date(1990, 5, 17)
NUMBERS = [{"system": SYSTEM, "value": "77-1"}]
ASHA: dict[str, Any] = {"name": "Asha Nair", "gender": "F", "birth_date": BORN, "birth_year": 1990}
DESCRIBED: dict[str, Any] = {
    "resourceType": "Patient", "name": [{"family": "Nair", "given": ["Asha"]}], "gender": "female",
    "birthDate": "1990-05-17", "identifier": NUMBERS,
}  # fmt: skip


def parameters(resource: Any = DESCRIBED, **others: Any) -> dict[str, Any]:
    members = {bool: "valueBoolean", int: "valueInteger", str: "valueString"}
    listed = [{"name": "resource", "resource": resource}]
    listed += [{"name": name, members[type(value)]: value} for name, value in others.items()]
    return {"resourceType": "Parameters", "parameter": listed}


def grades(client: APIClient, body: Any = None, **headers: str) -> list[tuple[int, str]]:
    """The ids and the grades of the matches."""
    answer = send(client, "POST", MATCH, parameters() if body is None else body, **headers)
    assert answer.status_code == 200, answer.content
    return [
        (int(entry["resource"]["id"]), entry["search"]["extension"][0]["valueCode"])
        for entry in answer.resource.get("entry", [])
    ]


def test_matches_are_a_searchset_with_scores_and_grades_best_first(as_alice: LoggedInClient, alice: User) -> None:
    possible = make_patient(alice, name="Asha Nair")
    probable = make_patient(alice, **ASHA)
    certain = make_patient(alice, **ASHA, identifiers=NUMBERS)
    make_patient(alice, name="Somebody Else")
    answer = send(as_alice, "POST", MATCH, parameters())
    assert answer.status_code == 200
    scores = [entry["search"].pop("score") for entry in answer.resource["entry"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score <= 1 for score in scores)
    assert answer.resource == {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": 3,
        "link": [{"relation": "self", "url": f"http://testserver/fhir{MATCH}"}],
        "entry": [
            {
                "fullUrl": f"http://testserver/fhir/Patient/{patient.pk}",
                "resource": send(as_alice, "GET", f"/Patient/{patient.pk}").resource,
                "search": {"extension": [{"url": GRADE, "valueCode": grade}], "mode": "match"},
            }
            for patient, grade in ((certain, "certain"), (probable, "probable"), (possible, "possible"))
        ],
    }


def test_a_patient_alone_is_the_same_request(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice, **ASHA, identifiers=NUMBERS)
    assert grades(as_alice, DESCRIBED) == grades(as_alice, parameters()) == [(patient.pk, "certain")]


@pytest.mark.parametrize(
    ("stored", "described", "grade"),
    [
        ({}, {"identifier": NUMBERS}, "certain"),  # a number alone
        ({"birth_date": None, "birth_year": None, "gender": "U"}, {}, "certain"),
        ({"name": "Meera Iyer"}, {}, "certain"),  # a new name at marriage; the date of birth agrees
        ({"birth_date": None}, {}, "certain"),  # the year agrees
        ({"deceased": True}, {}, "certain"),
        ({"birth_date": datetime.date(1990, 5, 18)}, {}, "probable"),
        ({"birth_date": datetime.date(1990, 5, 18), "name": "Meera Iyer", "gender": "U"}, {}, "possible"),
        ({"gender": "M"}, {}, "probable"),
        ({"deceased": True}, {"deceasedBoolean": False}, "probable"),
        (
            {"deceased": True, "deceased_on": datetime.date(2020, 1, 1)},
            {"deceasedDateTime": "2021-01-01"},
            "probable",
        ),
        ({"name": "Ravi Nair", "birth_date": None, "birth_year": None, "gender": "U"}, {}, "possible"),  # a family's
        ({"identifiers": [{"system": "http://elsewhere.example", "value": "77-1"}]}, {}, "probable"),
        ({"identifiers": [], "identifier": "77-1"}, {"identifier": [{"value": "77-1"}]}, "probable"),  # of no system
    ],
)
def test_a_number_makes_a_match_certain_unless_something_contradicts(
    as_alice: LoggedInClient, alice: User, stored: dict[str, Any], described: dict[str, Any], grade: str
) -> None:
    patient = make_patient(alice, **ASHA | {"identifiers": NUMBERS} | stored)
    body = (
        {"resourceType": "Patient", **described} if "identifier" in described and not stored else DESCRIBED | described
    )
    assert grades(as_alice, body) == [(patient.pk, grade)]


def test_every_kind_of_agreement_counts_for_a_probable_match(as_alice: LoggedInClient, alice: User) -> None:
    phone, email = "+91 80 5550 0100", "asha@example.org"
    patient = make_patient(alice, name="Asha Nair", phone=phone, email=email)
    telecom = [{"system": "phone", "value": phone}, {"system": "email", "value": email}]
    described = {"resourceType": "Patient", "name": [{"text": "Asha Nair"}]}
    assert grades(as_alice, {**described, "telecom": telecom[:1]}) == [(patient.pk, "possible")]
    assert grades(as_alice, {**described, "telecom": telecom}) == [(patient.pk, "probable")]


def test_only_certain_matches_is_none_when_two_are_certain(as_alice: LoggedInClient, alice: User) -> None:
    certain, _ = make_patient(alice, **ASHA, identifiers=NUMBERS), make_patient(alice, **ASHA)
    only = parameters(onlyCertainMatches=True)
    assert grades(as_alice, only) == [(certain.pk, "certain")]
    assert len(grades(as_alice, parameters(onlyCertainMatches=False))) == 2
    make_patient(alice, **ASHA, identifiers=NUMBERS)
    assert grades(as_alice, only) == []
    answer = send(as_alice, "POST", MATCH, only).resource
    assert (answer["total"], "entry" in answer) == (0, False)


def test_count_limits_the_matches_to_the_best(as_alice: LoggedInClient, alice: User) -> None:
    keys = [make_patient(alice, **ASHA).pk for _ in range(30)]
    certain = make_patient(alice, name="Asha Nair", gender="U", identifiers=NUMBERS)
    assert grades(as_alice, parameters(count=2)) == [(certain.pk, "certain"), (keys[-1], "probable")]
    assert len(grades(as_alice)) == 20  # as many as a search for a name compares


@pytest.mark.parametrize("described", [{}, {"gender": "female"}, {"birthDate": "1990-05"}, {"active": True}])
def test_a_description_that_fits_anybody_finds_nobody(
    as_alice: LoggedInClient, alice: User, described: dict[str, Any]
) -> None:
    make_patient(alice, **ASHA)
    assert grades(as_alice, {"resourceType": "Patient", **described}) == []


def test_nothing_is_stored_and_a_key_is_not_used(as_alice: LoggedInClient, alice: User) -> None:
    make_patient(alice, **ASHA)
    first = send(as_alice, "POST", MATCH, DESCRIBED, idempotency_key="once")
    make_patient(alice, **ASHA)
    assert Patient.objects.count() == 2
    again = send(as_alice, "POST", MATCH, DESCRIBED, idempotency_key="once")
    assert (first.resource["total"], again.resource["total"]) == (1, 2)
    assert "Idempotency-Replayed" not in again.headers


def test_others_deleted_and_merged_patients_do_not_match(as_alice: LoggedInClient, alice: User, bob: User) -> None:
    make_patient(bob, **ASHA, identifiers=NUMBERS)
    gone = make_patient(alice, **ASHA, identifiers=NUMBERS)
    as_alice.delete(f"/api/patients/{gone.pk}/")
    survivor, duplicate = make_patient(alice, **ASHA), make_patient(alice, **ASHA)
    merge(survivor, duplicate)
    assert grades(as_alice) == [(survivor.pk, "probable")]


def test_the_matches_are_recorded_as_read(as_alice: LoggedInClient, alice: User) -> None:
    found, _ = make_patient(alice, **ASHA), make_patient(alice, name="X")
    send(as_alice, "POST", MATCH, DESCRIBED)
    access = AccessLog.objects.get()
    assert (access.action, access.patient_ids, access.outcome) == ("patient.match", [found.pk], 200)


def test_a_token_that_may_only_read_may_match(alice: User) -> None:
    patient, client = make_patient(alice, **ASHA), APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {create_token(alice, name='t', scope='read').text}")
    assert grades(client) == [(patient.pk, "probable")]
    assert send(APIClient(), "POST", MATCH, DESCRIBED).status_code == 401


@pytest.mark.parametrize(
    ("body", "code", "expression"),
    [
        ({}, "structure", "Parameters"),
        ({"resourceType": "Practitioner"}, "structure", "Parameters"),
        ({"resourceType": "Parameters"}, "required", "Parameters.parameter"),
        ({"resourceType": "Patient", "birthDate": "1990-02-30"}, "value", "Patient.birthDate"),
        ({"resourceType": "Patient", "nme": []}, "structure", "Patient.nme"),
        (
            parameters({**DESCRIBED, "gender": "F"}),
            "code-invalid",
            "Parameters.parameter[0].resource.gender",
        ),
        (parameters({**DESCRIBED, "birthDate": "2999-01-01"}), "value", "Parameters.parameter[0].resource.birthDate"),
        (parameters({"resourceType": "Basic"}), "value", "Parameters.parameter[0].resource"),
        (parameters(count=0), "value", "Parameters.parameter[1].value"),
        (parameters(count="1"), "required", "Parameters.parameter[1]"),
        (parameters(onlyCertainMatches=1), "required", "Parameters.parameter[1]"),
        (parameters(onlyCertain=True), "not-supported", "Parameters.parameter[1].name"),
        (parameters() | {"parameter": parameters()["parameter"] * 2}, "duplicate", "Parameters.parameter[1]"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(
    as_alice: LoggedInClient, body: dict[str, Any], code: str, expression: str
) -> None:
    answer = send(as_alice, "POST", MATCH, body)
    assert (answer.status_code, diagnostics(answer)[0]) == (400, (code, [expression]))


def test_a_lenient_client_may_send_unknown_parameters(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice, **ASHA)
    assert grades(as_alice, parameters(other=True), prefer="handling=lenient") == [(patient.pk, "probable")]


def test_match_answers_post_alone(as_alice: LoggedInClient) -> None:
    answer = send(as_alice, "GET", MATCH)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST, OPTIONS")


def test_the_capability_statement_names_the_operation(as_alice: LoggedInClient) -> None:
    listed = send(as_alice, "GET", "/metadata").resource["rest"][0]["resource"]
    patient = next(one for one in listed if one["type"] == "Patient")
    definition = "http://hl7.org/fhir/OperationDefinition/Patient-match"
    assert {"name": "match", "definition": definition} in patient["operation"]
