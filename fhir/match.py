"""Patient/$match: which patients on record are the one that a client describes
(https://hl7.org/fhir/R4/patient-operation-match.html).

The candidates are the likely duplicates (`patients.duplicates`) of the patient in the request, in three grades:

- `certain`: a number of the same system is the same, and nothing contradicts;
- `probable`: three fields or more agree;
- `possible`: the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from fhir.bundles import bundle
from fhir.exceptions import Invalid
from fhir.issues import Issue
from fhir.operations import Operation
from fhir.patient import PATIENT_MAPPING
from fhir.structure import check_structure
from fhir.views import PatientFhirViewSet, issues_of
from patients.duplicates import BIRTH, NAME_WEIGHTS, WEIGHTS, LikelyDuplicate, find_likely_duplicates
from patients.models import Gender, Patient

GRADE = "http://hl7.org/fhir/StructureDefinition/match-grade"
CERTAIN, PROBABLE, POSSIBLE = "certain", "probable", "possible"
AGREEING_IF_PROBABLE = 3  # fields
# The least score of each grade. What agrees adds to it, so that no grade has a score of a better one.
LEAST_SCORES = {CERTAIN: 70, PROBABLE: 40, POSSIBLE: 10}
MOST_WEIGHT = sum(WEIGHTS.values()) + NAME_WEIGHTS[0]
MATCH_PARAMETERS = {"resource": "resource", "onlyCertainMatches": "valueBoolean", "count": "valueInteger"}


@dataclass(frozen=True)
class Match:
    patient: Patient
    grade: str
    score: Decimal


def find_matches(patient: Patient, *, only_certain: bool = False, count: int | None = None) -> list[Match]:
    """The owner's patients that match this one, which need not be complete, best first. With `only_certain` none where
    several are certain."""
    matches = [graded(patient, likely) for likely in find_likely_duplicates(patient, maximum=None)]
    matches.sort(key=lambda match: (-match.score, -match.patient.pk))
    if only_certain:
        certain = [match for match in matches if match.grade == CERTAIN]
        matches = certain if len(certain) == 1 else []
    return matches[:count]


def graded(patient: Patient, likely: LikelyDuplicate) -> Match:
    if "identifiers" in likely.agrees_on and not contradict(patient, likely):
        grade = CERTAIN
    else:
        grade = PROBABLE if len(likely.agrees_on) >= AGREEING_IF_PROBABLE else POSSIBLE
    return Match(likely.patient, grade, Decimal(LEAST_SCORES[grade] + 30 * likely.weight // MOST_WEIGHT) / 100)


def contradict(patient: Patient, likely: LikelyDuplicate) -> bool:
    """Whether the two, who share a number, cannot both be right about birth, gender or death, or have different names.
    A person may get a new name: with the same date of birth, names do not contradict."""
    other, agreed = likely.patient, {*likely.agrees_on}
    names_differ = (
        bool(patient.name) and "name" not in agreed and folded_words(patient.name) != folded_words(other.name)
    )
    return (
        (bool(patient.birth_year and other.birth_year) and agreed.isdisjoint(BIRTH))
        or (patient.gender != other.gender and Gender.UNKNOWN not in {patient.gender, other.gender})
        or (patient.deceased != other.deceased and None not in {patient.deceased, other.deceased})
        or (patient.deceased_on != other.deceased_on and None not in {patient.deceased_on, other.deceased_on})
        or (names_differ and "birth_date" not in agreed)
    )


def folded_words(name: str) -> list[str]:
    return sorted(name.casefold().replace(",", " ").split())


@dataclass(frozen=True)
class MatchRequest:
    """`place` is the expression of the resource."""

    resource: Mapping[str, Any]
    place: str
    only_certain: bool = False
    count: int | None = None


def read_match_request(body: Mapping[str, Any], *, lenient: bool) -> MatchRequest:
    """What the body asks for: Parameters, or the Patient alone, as many clients send it. Raises Invalid (400)."""
    kind = "Patient" if body.get("resourceType") == "Patient" else "Parameters"
    issues = check_structure(kind, body)
    if issues:
        raise Invalid(*issues)
    if kind == "Patient":
        return MatchRequest(body, "Patient")
    values, places = read_parameters(body, lenient=lenient)
    resource = values.get("resource")
    if resource is None:
        raise Invalid(Issue("required", "Send the patient as the parameter `resource`.", "Parameters.parameter"))
    if resource["resourceType"] != "Patient":
        raise Invalid(Issue("value", "Send a Patient as `resource`.", places["resource"]))
    if values.get("count", 1) < 1:
        raise Invalid(Issue("value", "Send 1 or more as `count`.", places["count"]))
    return MatchRequest(resource, places["resource"], values.get("onlyCertainMatches", False), values.get("count"))


def read_parameters(body: Mapping[str, Any], *, lenient: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """The values of the parameters by name, and the expression of each."""
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    for position, parameter in enumerate(body.get("parameter", ())):
        place, name = f"Parameters.parameter[{position}]", parameter["name"]
        member = MATCH_PARAMETERS.get(name)
        if member is None:
            if lenient:
                continue
            raise Invalid(Issue("not-supported", f"Send only {', '.join(MATCH_PARAMETERS)}.", f"{place}.name"))
        if name in values:
            raise Invalid(Issue("duplicate", "Send each parameter once.", place))
        if member not in parameter:
            raise Invalid(Issue("required", f"Send `{member}` for this parameter.", place))
        values[name] = parameter[member]
        places[name] = f"{place}.{'resource' if member == 'resource' else 'value'}"
    return values, places


class PatientMatchViewSet(PatientFhirViewSet):
    """It changes nothing: `read` suffices, and a repeated request needs no Idempotency-Key."""

    operation = Operation("match", "http://hl7.org/fhir/OperationDefinition/Patient-match")
    action_roles = {"match": "read"}
    actions_without_key = frozenset({"match"})

    def match(self, request: Request) -> Response:
        wanted = read_match_request(dict(request.data), lenient=self.preferences.get("handling") == "lenient")
        found = find_matches(self.read_partial(wanted), only_certain=wanted.only_certain, count=wanted.count)
        resources = self.represent_all([match.patient for match in found])
        self.patients_read |= {match.patient.pk for match in found}
        entries = [
            {
                "fullUrl": self.url_of(match.patient.pk),
                "resource": resource,
                "search": {
                    "extension": [{"url": GRADE, "valueCode": match.grade}],
                    "mode": "match",
                    "score": match.score,
                },
            }
            for match, resource in zip(found, resources, strict=True)
        ]
        return self.answer(bundle("searchset", f"{self.base}/Patient/$match", entries, used={}, total=len(entries)))

    def read_partial(self, wanted: MatchRequest) -> Patient:
        """The patient of the request, not saved. Any of its elements may be missing. Raises Invalid (400)."""
        incoming = PATIENT_MAPPING.read(wanted.resource)
        values = {name: value for name, value in incoming.values.items() if (name, value) != ("name", "")}
        context = self.get_serializer_context()
        serializer = self.serializer_class(data=values, partial=True, context=context)
        if not serializer.is_valid():
            issues = issues_of(serializer.errors, incoming)
            raise Invalid(*(moved(issue, wanted.place) for issue in issues))
        patient = Patient(created_by_id=self.owner.pk or 0, **serializer.validated_data)
        patient.complete()
        return patient


def moved(issue: Issue, place: str) -> Issue:
    """The issue of a Patient that is a part of the body."""
    return Issue(issue.code, issue.diagnostics, place + issue.expression.removeprefix("Patient"))
