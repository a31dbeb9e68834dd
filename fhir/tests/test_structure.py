"""What of JSON is a valid R4 resource, and what is said about the rest."""

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fhir.issues import Issue
from fhir.structure import MAXIMUM_ISSUES, check_structure
from fhir.tests.resources import JSONObject, patients, practitioners
from fhir.tests.structures import DIV, UCUM, issues_of, patient, summary, with_extension

EITHER = st.one_of(patients(), practitioners())
# Resources are large; what is slow is to draw them.
GENEROUS = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
CHOICE = re.compile(
    r"(deceased|multipleBirth|value(?!Set)|author|bounds|asNeeded|dose(?!AndRate)|rate|subject|timing)[A-Z]\w*"
)
# Any valid resource


@GENEROUS
@given(EITHER)
def test_any_valid_resource_has_no_issues(resource: JSONObject):
    assert check_structure(resource["resourceType"], resource) == []


def nodes(value: Any, expression: str, companion: Any = None) -> Iterator[tuple[Any, Any, str]]:
    """Each member below a value: its parent, its key or index, and its FHIRPath, which is made here in another way."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            if not (isinstance(companion, list) and companion[index] is not None) and item is not None:
                yield value, index, f"{expression}[{index}]"
                yield from nodes(item, f"{expression}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in ("resourceType", "contained"):
                name = key.removeprefix("_")
                match = CHOICE.fullmatch(name)
                below = f"{expression}.{match[1] if match else name}"
                yield value, key, below
                yield from nodes(item, below, value.get(f"_{key}"))


MUTATIONS: dict[str, Callable[[Any], Any]] = {
    "null": lambda _: None,
    "an empty string": lambda _: "",
    "an empty object": lambda _: {},
    "an empty array": lambda _: [],
    "another type": lambda value: 7 if isinstance(value, str | list | dict) else "seven",
    "a nested array": lambda value: [[value]],
}


@GENEROUS
@given(EITHER, st.sampled_from(list(MUTATIONS)), st.data())
def test_one_wrong_value_in_a_valid_resource_is_found_where_it_is(
    resource: JSONObject, mutation: str, data: st.DataObject
):
    changed = deepcopy(resource)
    places = list(nodes(changed, resource["resourceType"]))
    assume(places)
    parent, key, expression = data.draw(st.sampled_from(places))
    parent[key] = MUTATIONS[mutation](parent[key])
    found = {issue.expression for issue in check_structure(resource["resourceType"], changed)}
    # What is not the element's own array is reported as its first entry.
    assert expression in found or f"{expression}[0]" in found


@GENEROUS
@given(EITHER, st.data())
def test_an_unknown_element_anywhere_is_found_where_it_is(resource: JSONObject, data: st.DataObject):
    changed = deepcopy(resource)
    places = [(changed, resource["resourceType"])] + [
        (parent[key], expression)
        for parent, key, expression in nodes(changed, resource["resourceType"])
        if isinstance(parent[key], dict)
    ]
    parent, expression = data.draw(st.sampled_from(places))
    parent["favouriteColour"] = "blue"
    assert check_structure(resource["resourceType"], changed) == [
        Issue("structure", "R4 does not know this element; remove it.", f"{expression}.favouriteColour")
    ]


# The form of JSON


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"name": {"text": "Ada"}}, ["structure Patient.name"]),
        ({"name": []}, ["structure Patient.name"]),
        ({"name": None}, ["structure Patient.name"]),
        ({"name": [None]}, ["structure Patient.name[0]"]),
        ({"name": [{"given": "Ada"}]}, ["structure Patient.name[0].given"]),
        ({"name": [{"given": ["Ada", None]}]}, ["structure Patient.name[0].given[1]"]),
        ({"gender": ["male"]}, ["structure Patient.gender"]),
        ({"gender": None}, ["structure Patient.gender"]),
        ({"maritalStatus": {}}, ["structure Patient.maritalStatus"]),
        ({"maritalStatus": {"id": "a"}}, ["invariant Patient.maritalStatus"]),
        ({"deceasedBoolean": True, "deceasedDateTime": "2020"}, ["structure Patient.deceased"]),
        ({"deceasedBoolean": True, "_deceasedDateTime": {"id": "a"}}, ["structure Patient.deceased"]),
        ({"multipleBirthBoolean": True, "multipleBirthInteger": 2}, ["structure Patient.multipleBirth"]),
        ({"deceasedString": "yes"}, ["structure Patient.deceasedString"]),
        ({"not a name": "Ada Lovelace"}, ["structure Patient"]),
        ({"a" * 65: 1}, ["structure Patient"]),
        ({"fhir_comments": ["a"]}, ["structure Patient.fhir_comments"]),
        ({"implicitRules": "http://example.org"}, ["not-supported Patient.implicitRules"]),
        (
            {"modifierExtension": [{"url": "http://example.org", "valueBoolean": True}]},
            ["extension Patient.modifierExtension"],
        ),
        (
            {"contact": [{"name": {"text": "A"}, "modifierExtension": [{"url": "urn:a", "valueCode": "a"}]}]},
            ["extension Patient.contact[0].modifierExtension"],
        ),
        ({"name": [{"text": "Ada", "modifierExtension": []}]}, ["structure Patient.name[0].modifierExtension"]),
        ({"name": [{"resourceType": "HumanName", "text": "Ada"}]}, ["structure Patient.name[0].resourceType"]),
    ],
)  # fmt: skip
def test_the_form_is_that_of_fhir(elements: JSONObject, expected: list[str]):
    assert issues_of(**elements) == expected


ABSENT = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"birthDate": "1990", "_birthDate": {"id": "a", **ABSENT}}, []),
        ({"_birthDate": ABSENT}, []),
        ({"birthDate": "1990", "_birthDate": {"id": "a"}}, []),
        ({"_birthDate": {"id": "a"}}, ["invariant Patient.birthDate"]),
        ({"_birthDate": {}}, ["structure Patient.birthDate"]),
        ({"_birthDate": None}, ["structure Patient.birthDate"]),
        ({"birthDate": "1990", "_birthDate": None}, ["structure Patient.birthDate"]),
        ({"birthDate": None, "_birthDate": ABSENT}, ["structure Patient.birthDate"]),
        ({"_birthDate": [ABSENT]}, ["structure Patient.birthDate"]),
        ({"_birthDate": {"value": "1990"}}, ["invariant Patient.birthDate", "structure Patient.birthDate.value"]),
        ({"_birthDate": {"extension": [{"url": "http://example.org"}]}}, ["invariant Patient.birthDate.extension[0]"]),
        ({"_name": [ABSENT]}, ["structure Patient.name"]),
        ({"id": "a", "_id": ABSENT}, ["structure Patient.id"]),
        ({"text": {"status": "empty", "div": DIV.format("a"), "_div": ABSENT}}, ["structure Patient.text.div"]),
        ({"name": [{"given": ["Ada", None], "_given": [None, ABSENT]}]}, []),
        ({"name": [{"_given": [ABSENT]}]}, []),
        ({"name": [{"given": ["Ada"], "_given": [None]}]}, []),
        ({"name": [{"given": [None], "_given": [ABSENT]}]}, []),
        ({"name": [{"given": [None], "_given": [None]}]}, ["structure Patient.name[0].given[0]"]),
        ({"name": [{"_given": [None]}]}, ["structure Patient.name[0].given[0]"]),
        ({"name": [{"given": ["Ada"], "_given": [None, ABSENT]}]}, ["structure Patient.name[0].given"]),
        ({"name": [{"given": ["Ada"], "_given": ABSENT}]}, ["structure Patient.name[0].given"]),
        ({"link": [{"other": {"display": "Ada"}, "_type": ABSENT}]}, []),
    ],
)  # fmt: skip
def test_extensions_of_a_primitive_stand_beside_it(elements: JSONObject, expected: list[str]):
    assert issues_of(**elements) == expected


# Elements


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"gender": "M"}, ["code-invalid Patient.gender"]),
        ({"name": [{"use": "Official"}]}, ["code-invalid Patient.name[0].use"]),
        ({"identifier": [{"use": "first", "value": "1"}]}, ["code-invalid Patient.identifier[0].use"]),
        ({"telecom": [{"system": "telephone", "value": "1"}]}, ["code-invalid Patient.telecom[0].system"]),
        ({"telecom": [{"system": "phone", "use": "office"}]}, ["code-invalid Patient.telecom[0].use"]),
        ({"telecom": [{"system": "phone", "rank": 0}]}, ["value Patient.telecom[0].rank"]),
        ({"telecom": [{"value": "1"}]}, ["invariant Patient.telecom[0]"]),
        ({"address": [{"use": "office"}]}, ["code-invalid Patient.address[0].use"]),
        ({"address": [{"type": "both"}, {"type": "none"}]}, ["code-invalid Patient.address[1].type"]),
        ({"photo": [{"data": "QQ=="}]}, ["invariant Patient.photo[0]"]),
        ({"photo": [{"contentType": "png"}]}, ["code-invalid Patient.photo[0].contentType"]),
        ({"link": [{}]}, ["structure Patient.link[0]"]),
        ({"link": [{"type": "refer"}]}, ["required Patient.link[0].other"]),
        ({"link": [{"other": {"display": "a"}, "type": "same"}]}, ["code-invalid Patient.link[0].type"]),
        ({"communication": [{"preferred": True}]}, ["required Patient.communication[0].language"]),
        ({"contact": [{"gender": "female"}]}, ["invariant Patient.contact[0]"]),
        ({"contact": [{"organization": {"display": "A clinic"}}]}, []),
        ({"extension": [{"valueCode": "a"}]}, ["required Patient.extension[0].url"]),
        ({"text": {"status": "generated"}}, ["required Patient.text.div"]),
        ({"text": {"div": DIV.format("a")}}, ["required Patient.text.status"]),
        ({"meta": {"lastUpdated": "2020"}}, ["value Patient.meta.lastUpdated"]),
        ({"meta": {"tag": [{"code": " "}]}}, ["value Patient.meta.tag[0].code"]),
    ],
)  # fmt: skip
def test_the_elements_of_a_patient_follow_r4(elements: JSONObject, expected: list[str]):
    assert issues_of(**elements) == expected


def test_a_qualification_of_a_practitioner_has_a_code():
    practitioner = {"resourceType": "Practitioner", "qualification": [{"identifier": [{"value": "1"}]}]}
    assert check_structure("Practitioner", practitioner) == [
        Issue("required", "Send this element; R4 requires it.", "Practitioner.qualification[0].code")
    ]


@pytest.mark.parametrize(
    ("period", "is_valid"),
    [
        ({"start": "2020", "end": "2020-01-01"}, True),
        ({"start": "2020-06", "end": "2020"}, True),
        ({"start": "2020-06", "end": "2020-05-31"}, False),
        ({"start": "2020-01-01T23:00:00-05:00", "end": "2020-01-01"}, True),
        ({"start": "2020-01-02T00:00:00Z", "end": "2020-01-01"}, False),
        ({"start": "2020-01-01T10:00:00+02:00", "end": "2020-01-01T08:00:00Z"}, True),
        ({"start": "2020-01-01T10:00:00+02:00", "end": "2020-01-01T07:59:59.999Z"}, False),
        ({"start": "2016-12-31T23:59:60.5Z", "end": "2017-01-01T00:00:00Z"}, True),
        ({"start": "2020-01-01T10:00:00.1000000001Z", "end": "2020-01-01T10:00:00.1Z"}, False),
        ({"start": "0001-01-01T00:00:00+14:00", "end": "9999-12-31T23:59:59-14:00"}, True),
        ({"_start": ABSENT, "end": "2020"}, True),
    ],
)
def test_a_period_does_not_end_before_it_starts(period: JSONObject, is_valid: bool):
    expected = [] if is_valid else ["invariant Patient.name[0].period"]
    assert issues_of(name=[{"text": "Ada", "period": period}]) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({}, ["invariant "]),
        ({"valueCode": "a", "extension": [{"url": "b", "valueCode": "c"}]}, ["invariant "]),
        ({"valueCode": "a", "valueString": "a"}, ["structure .value"]),
        ({"extension": [{"url": "b", "extension": [{"url": "c"}]}]}, ["invariant .extension[0].extension[0]"]),
        ({"extension": [{"url": "b", "extension": [{"url": "c", "_valueCode": ABSENT}]}]}, []),
        ({"_url": ABSENT, "valueCode": "a"}, ["structure .url"]),
        ({"valueNarrative": {"status": "empty"}}, ["structure .valueNarrative"]),
        ({"valueElementId": "a"}, ["structure .valueElementId"]),
        ({"valueAge": {"value": 3, "code": "a", **UCUM}}, []),
        ({"valueAge": {"value": 0, "code": "a", **UCUM}}, ["invariant .value"]),
        ({"valueAge": {"value": 3}}, ["invariant .value"]),
        ({"valueCount": {"value": Decimal("1.5"), "code": "1", **UCUM}}, ["invariant .value"]),
        ({"valueDistance": {"value": 3, "code": "km", "system": "http://example.org"}}, ["invariant .value"]),
        ({"valueDuration": {"code": "min", **UCUM}}, ["invariant .value"]),
        ({"valueQuantity": {"value": Decimal("1.50"), "comparator": "<", "unit": "mg"}}, []),
        ({"valueQuantity": {"value": 1, "comparator": "="}}, ["code-invalid .value.comparator"]),
        ({"valueQuantity": {"code": "mg"}}, ["invariant .value"]),
        ({"valueRange": {"low": {"value": 2}, "high": {"value": 1}}}, ["invariant .value"]),
        ({"valueRange": {"low": {"value": 2, "unit": "mg"}, "high": {"value": 1, "unit": "g"}}}, []),
        ({"valueRange": {"low": {"value": 2, "comparator": "<"}}}, ["invariant .value.low"]),
        ({"valueRatio": {"numerator": {"value": 1}}}, ["invariant .value"]),
        ({"valueRatio": {"id": "a", "extension": [{"url": "b", "valueCode": "c"}]}}, []),
        ({"valueMoney": {"value": 1, "currency": "EURO"}}, ["code-invalid .value.currency"]),
        ({"valueAnnotation": {"authorString": "Ada", "text": "a"}}, []),
        ({"valueAnnotation": {"time": "2020"}}, ["required .value.text"]),
        ({"valueSampledData": {"origin": {"value": 1}, "period": 1, "dimensions": 1, "data": "1 2"}}, []),
        ({"valueSampledData": {"origin": {"value": 1}, "dimensions": 0}}, [
            "value .value.dimensions", "required .value.period",
        ]),
        ({"valueSignature": {"type": [{"code": "a"}], "when": "2020-01-01T00:00:00Z", "who": {"display": "Ada"}}}, []),
        ({"valueTiming": {"repeat": {"period": 1, "periodUnit": "d", "dayOfWeek": ["mon"]}}}, []),
        ({"valueTiming": {"repeat": {"period": 1}}}, ["invariant .value.repeat"]),
        ({"valueTiming": {"repeat": {"duration": -1, "durationUnit": "d"}}}, ["invariant .value.repeat"]),
        ({"valueTiming": {"repeat": {"offset": 5, "when": ["C"]}}}, ["invariant .value.repeat"]),
        (
            {"valueDosage": {"doseAndRate": [{"doseQuantity": {"value": 1}, "rateQuantity": {"value": 2}}]}},
            [],
        ),
        (
            {"valueDosage": {"doseAndRate": [{"doseSimpleQuantity": {"value": 1}}]}},
            ["structure .value.doseAndRate[0].doseSimpleQuantity"],
        ),
        ({"valueExpression": {"language": "text/cql"}}, ["invariant .value"]),
        (
            {"valueDataRequirement": {"type": "Patient", "codeFilter": [{"code": [{"code": "a"}]}]}},
            ["invariant .value.codeFilter[0]"],
        ),
        ({"valueDataRequirement": {"type": "Patients"}}, ["code-invalid .value.type"]),
        ({"valueTriggerDefinition": {"type": "periodic", "timingDate": "2020"}}, []),
        ({"valueTriggerDefinition": {"type": "periodic"}}, ["invariant .value"]),
        ({"valueUsageContext": {"code": {"code": "a"}}}, ["required .value.value"]),
    ],
)  # fmt: skip
def test_an_extension_has_one_value_of_an_open_type_or_extensions(value: JSONObject, expected: list[str]):
    found = summary("Patient", with_extension(**value))
    assert [issue.replace("Patient.extension[0]", "") for issue in found] == expected


# References and contained resources

CLINIC = {"resourceType": "Organization", "id": "clinic", "name": "A clinic"}


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"contained": [CLINIC], "managingOrganization": {"reference": "#clinic"}}, []),
        (
            {"contained": [CLINIC], "managingOrganization": {"reference": "#other"}},
            ["invariant Patient.managingOrganization.reference"],
        ),
        ({"managingOrganization": {"reference": "#clinic"}}, ["invariant Patient.managingOrganization.reference"]),
        ({"contained": [CLINIC]}, ["invariant Patient.contained[0]"]),
        (
            {"contained": [{"resourceType": "Basic", "id": "a", "code": {"text": "b"}, "subject": {"reference": "#"}}]},
            [],
        ),
        (
            {"contained": [CLINIC, CLINIC], "managingOrganization": {"reference": "#clinic"}},
            ["duplicate Patient.contained[1].id"],
        ),
        ({"contained": [{"resourceType": "Organization"}]}, ["required Patient.contained[0].id"]),
        ({"contained": [{"id": "a"}]}, ["structure Patient.contained[0]"]),
        ({"contained": [{"resourceType": "Clinic", "id": "a"}]}, ["structure Patient.contained[0]"]),
        ({"contained": [CLINIC | {"contained": [CLINIC]}]}, ["invariant Patient.contained[0].contained"]),
        (
            {
                "contained": [CLINIC | {"meta": {"versionId": "1", "security": [{"code": "R"}]}}],
                "managingOrganization": {"reference": "#clinic"},
            },
            ["invariant Patient.contained[0].meta", "invariant Patient.contained[0].meta"],
        ),
        (
            {"contained": [{"resourceType": "Practitioner", "id": "a", "gender": "M"}]},
            ["code-invalid Patient.contained[0].gender"],
        ),
        ({"contained": [CLINIC | {"alias": ["a", None]}]}, ["structure Patient.contained[0].alias[1]"]),
        (
            {
                "contained": [CLINIC | {"alias": ["a", None], "_alias": [None, ABSENT]}],
                "managingOrganization": {"reference": "#clinic"},
            },
            [],
        ),
        ({"contained": [CLINIC | {"alias": [None], "_alias": [None]}]}, ["structure Patient.contained[0].alias[0]"]),
        (
            {"contained": [CLINIC | {"alias": ["a"], "_alias": [None, ABSENT]}]},
            ["structure Patient.contained[0].alias"],
        ),
        ({"contained": [CLINIC | {"_name": {"value": "a"}}]}, ["structure Patient.contained[0].name.value"]),
        ({"contained": [CLINIC | {"partOf": {"display": ""}}]}, ["structure Patient.contained[0].partOf.display"]),
        ({"contained": [CLINIC | {"partOf": {}}]}, ["structure Patient.contained[0].partOf"]),
        ({"contained": [CLINIC | {"alias": []}]}, ["structure Patient.contained[0].alias"]),
        ({"contained": [CLINIC | {"alias": [["a"]]}]}, ["structure Patient.contained[0].alias[0]"]),
        (
            {"contained": [CLINIC | {"contact": [{"modifierExtension": [{}]}]}]},
            ["extension Patient.contained[0].contact[0].modifierExtension"],
        ),
        ({"contained": [CLINIC | {"_id": ABSENT}]}, ["structure Patient.contained[0].id"]),
        ({"contained": [CLINIC | {"implicitRules": "a"}]}, ["not-supported Patient.contained[0].implicitRules"]),
        ({"generalPractitioner": [{"reference": "https://elsewhere.example/fhir/Practitioner/1/_history/2"}]}, []),
        ({"generalPractitioner": [{"reference": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520"}]}, []),
        ({"generalPractitioner": [{"reference": "Patient/1"}]}, ["value Patient.generalPractitioner[0].reference"]),
        ({"generalPractitioner": [{"type": "Patient", "display": "a"}]}, ["value Patient.generalPractitioner[0].type"]),
    ],
)  # fmt: skip
def test_references_and_contained_resources_belong_together(elements: JSONObject, expected: list[str]):
    assert issues_of(**elements) == expected


# Bundles and Parameters


def bundle(*entries: JSONObject, **elements: Any) -> JSONObject:
    return {"resourceType": "Bundle", "type": "transaction", "entry": [*entries], **elements}


def create(resource: JSONObject, **elements: Any) -> JSONObject:
    return {"resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}, **elements}


URN = "urn:uuid:c757873d-ec9a-4326-a141-556f43239520"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            bundle(create(patient(), fullUrl=URN), {"request": {"method": "DELETE", "url": "Patient/1"}}),
            [],
        ),
        ({"resourceType": "Bundle", "type": "batch"}, []),
        ({"resourceType": "Bundle"}, ["required Bundle.type"]),
        (bundle(type="bulk"), ["code-invalid Bundle.type", "structure Bundle.entry"]),
        (bundle({"fullUrl": URN}), ["invariant Bundle.entry[0]"]),
        (bundle({"resource": patient()}), ["invariant Bundle.entry[0].request"]),
        (bundle(create(patient(), response={"status": "201"})), ["invariant Bundle.entry[0].response"]),
        (bundle(create(patient(), search={"mode": "match"})), ["invariant Bundle.entry[0].search"]),
        (bundle(create(patient()), total=1), ["invariant Bundle.total"]),
        (bundle(create(patient(), fullUrl=URN), create(patient(), fullUrl=URN)), ["invariant Bundle.entry[1].fullUrl"]),
        (bundle(create(patient(), fullUrl="http://example.org/Patient/1/_history/1")), ["invariant Bundle.entry[0]"]),
        (bundle({"request": {"method": "post", "url": "Patient"}}), ["code-invalid Bundle.entry[0].request.method"]),
        (bundle({"request": {"method": "POST"}}), ["required Bundle.entry[0].request.url"]),
        (bundle(create(patient(gender="M"))), ["code-invalid Bundle.entry[0].resource.gender"]),
        (bundle(create(patient(managingOrganization={"reference": "#a"}))), [
            "invariant Bundle.entry[0].resource.managingOrganization.reference",
        ]),
        (
            bundle(create({"resourceType": "Observation", "status": None})),
            ["structure Bundle.entry[0].resource.status"],
        ),
        (
            bundle({"resource": {"id": "a"}, "request": {"method": "POST", "url": "Patient"}}),
            ["structure Bundle.entry[0].resource"],
        ),
        (bundle(create(patient()), modifierExtension=[]), ["structure Bundle.modifierExtension"]),
        (bundle(create({"resourceType": "Binary", "contentType": "a/b", "contained": [{"a": "b"}]})), []),
    ],
)  # fmt: skip
def test_a_bundle_follows_r4_with_all_its_resources(value: JSONObject, expected: list[str]):
    assert summary("Bundle", value) == expected


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        ({"name": "resource", "resource": {"resourceType": "Patient", "birthDate": "1990"}}, []),
        ({"name": "onlyCertainMatches", "valueBoolean": True}, []),
        ({"name": "a", "part": [{"name": "b", "part": [{"name": "c", "valueDecimal": Decimal("0.10")}]}]}, []),
        ({"valueBoolean": True}, ["required Parameters.parameter[0].name"]),
        ({"name": "a"}, ["invariant Parameters.parameter[0]"]),
        (
            {"name": "a", "valueCode": "b", "resource": {"resourceType": "Patient"}},
            ["invariant Parameters.parameter[0]"],
        ),
        ({"name": "a", "part": [{"name": "b"}]}, ["invariant Parameters.parameter[0].part[0]"]),
        (
            {"name": "a", "resource": {"resourceType": "Patient", "name": "b"}},
            ["structure Parameters.parameter[0].resource.name"],
        ),
    ],
)  # fmt: skip
def test_a_parameter_has_one_value_resource_or_parts(parameter: JSONObject, expected: list[str]):
    assert summary("Parameters", {"resourceType": "Parameters", "parameter": [parameter]}) == expected


# The report


@pytest.mark.parametrize("resource", [{}, {"resourceType": "Practitioner"}, {"resourceType": ["Patient"]}])
def test_another_type_than_the_expected_is_the_only_issue(resource: JSONObject):
    assert check_structure("Patient", resource | {"gender": 7}) == [
        Issue("structure", "Send a resource with the `resourceType` Patient.", "Patient")
    ]


@pytest.mark.parametrize(
    "resource",
    [
        patient(name=[{"use": "x"}] * 100_000),
        patient(name=[7] * 100_000),
        patient(**{f"unknown{index}": 1 for index in range(100_000)}),
        patient(contained=[{"resourceType": "Basic", "id": "a"}] * 30_000),
        patient(contained=[{"resourceType": "Basic", "id": str(index)} for index in range(30_000)]),
        bundle(*[create(patient(), fullUrl=URN)] * 10_000),
        patient(name=[{"given": [None] * 100_000, "_given": [None] * 100_000}]),
    ],
)
def test_large_resources_have_the_first_issues_reported(resource: JSONObject):
    assert len(check_structure(resource["resourceType"], resource)) == MAXIMUM_ISSUES


def test_large_valid_resources_have_no_issues():
    spaces = " " * 500_000
    names = [{"given": ["a"] * 50_000, "text": f"a{spaces}"}, {"text": "b", "period": {"start": "2020", "end": "2021"}}]
    photo = {"contentType": "image/png", "data": f"QQ{spaces}=="}
    div = DIV.format("<b>a</b>" * 50_000)
    assert issues_of(name=names, photo=[photo], text={"status": "generated", "div": div}) == []


# No sentence of ours contains either: a whole word, such as `remove`, some do.
SECRETS = st.one_of(st.text(min_size=6).map("{}¶".format), st.from_regex(r"zq[A-Za-z0-9_]{6,20}", fullmatch=True))


@GENEROUS
@given(SECRETS)
def test_no_issue_repeats_a_value(secret: str):
    resource = patient(
        **{secret: secret}, gender=secret, birthDate=secret, name=[{"use": secret}], extension=[{"url": f" {secret}"}],
        text={"status": secret, "div": secret}, contained=[{"resourceType": secret, "id": secret}],
    )  # fmt: skip
    assert not [issue for issue in check_structure("Patient", resource) if secret in issue.diagnostics]
