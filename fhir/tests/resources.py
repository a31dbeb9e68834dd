"""Hypothesis strategies of valid R4 resources, as decoded JSON: any optional elements, numbers as int or Decimal.

References lead elsewhere (`https://elsewhere.example/…`) or to a contained resource, days are of 1900 to 2020, texts
have no control or format characters: what is refused is refused for what the test is about.
"""

from base64 import b64encode
from collections.abc import Callable
from copy import deepcopy
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any

from hypothesis import strategies as st

from fhir.definitions import DEFINITIONS, Definition, Property
from fhir.primitives import is_before
from fhir.structure import has_companion
from fhir.value_sets import VALUE_SETS

JSONObject = dict[str, Any]
UCUM = "http://unitsofmeasure.org"
XHTML = 'xmlns="http://www.w3.org/1999/xhtml"'

TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"]), min_size=1, max_size=20
).filter(str.strip)
WORDS = st.text("abcXYZ019", min_size=1, max_size=8)
DAYS = st.dates(date(1900, 1, 1), date(2020, 12, 31)).map(str)
TIMES = st.builds(
    lambda time, fraction: f"{time:%H:%M:%S}{fraction}", st.times(), st.sampled_from(["", ".5", ".120", ".123456789"])
)
INSTANTS = st.builds("{}T{}{}".format, DAYS, TIMES, st.sampled_from(["Z", "+05:30", "-03:00", "+14:00"]))
PARTIAL_DATES = st.builds(lambda day, length: day[:length], DAYS, st.sampled_from([4, 7, 10]))
DECIMALS = st.one_of(
    st.integers(-(10**9), 10**9),
    st.integers(1, 6).flatmap(lambda places: st.decimals(-(10**6), 10**6, places=places)),
    st.sampled_from([Decimal("0.00"), Decimal("72.50"), Decimal("1E+3"), Decimal("1.10E-7")]),
)
URLS = WORDS.map("https://elsewhere.example/{}".format)
PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "base64Binary": st.binary(min_size=1, max_size=12).map(lambda data: b64encode(data).decode()),
    "boolean": st.booleans(),
    "canonical": WORDS.map("http://example.org/fhir/{}|1.0".format),
    "code": WORDS,
    "date": PARTIAL_DATES,
    "dateTime": st.one_of(PARTIAL_DATES, INSTANTS),
    "decimal": DECIMALS,
    "element-id": WORDS,
    "id": WORDS,
    "instant": INSTANTS,
    "integer": st.integers(-(2**31), 2**31 - 1),
    "markdown": TEXTS.map("**{}**\n\n- x".format),
    "oid": st.integers(0, 10**9).map("urn:oid:2.16.{}".format),
    "positiveInt": st.integers(1, 2**31 - 1),
    "string": TEXTS,
    "time": TIMES,
    "unsignedInt": st.integers(0, 2**31 - 1),
    "uri": st.one_of(URLS, st.uuids().map("urn:uuid:{}".format)),
    "url": URLS,
    "uuid": st.uuids().map("urn:uuid:{}".format),
    "xhtml": st.sampled_from(
        [
            f"<div {XHTML}>Ada &lt; Grace &#160;</div>",
            f'<div {XHTML} lang="en" xml:lang="en"><p class="a"><b>Ada</b><br/></p></div>',
            f'<div {XHTML}><table border="1"><tr><td>1</td></tr></table><img src="#i" alt=""/></div>',
        ]
    ),
}
OPEN_CODES = {"mimetypes": ["image/png", "text/plain; charset=UTF-8"], "currencies": ["EUR", "INR"]}


def in_ucum(value: Any, code: str) -> JSONObject:
    return {"value": value, "unit": code, "system": UCUM, "code": code}


# The types whose elements depend on each other too much to draw them one by one.
SAMPLES: dict[str, list[JSONObject]] = {
    "Age": [in_ucum(34, "a"), in_ucum(Decimal("1.50"), "mo") | {"comparator": "<"}],
    "Count": [in_ucum(3, "1")],
    "Distance": [in_ucum(Decimal("12.0"), "km")],
    "Duration": [in_ucum(90, "min"), {"value": 1, "unit": "while"}],
    "SimpleQuantity": [in_ucum(Decimal("5.00"), "mg"), {"value": 2, "unit": "tablets"}],
    "Range": [{"low": in_ucum(1, "mg"), "high": in_ucum(Decimal("1.0"), "mg")}, {"high": in_ucum(9, "mg")}],
    "Ratio": [{"numerator": in_ucum(1, "mg"), "denominator": in_ucum(1, "mL")}],
    "Timing.repeat": [
        {
            "boundsPeriod": {"start": "2020"},
            "frequency": 2,
            "period": 1,
            "periodUnit": "d",
            "when": ["AC"],
            "offset": 30,
        },
        {
            "boundsDuration": in_ucum(10, "d"),
            "count": 3,
            "countMax": 4,
            "timeOfDay": ["08:00:00"],
            "dayOfWeek": ["mon"],
        },
    ],
    "DataRequirement.codeFilter": [{"path": "code", "code": [{"code": "a"}]}, {"searchParam": "code"}],
    "DataRequirement.dateFilter": [{"path": "issued", "valuePeriod": {"start": "2020"}}],
    "TriggerDefinition": [
        {"type": "named-event", "name": "admission"},
        {"type": "periodic", "timingTiming": {"event": ["2020-01-01T08:00:00Z"]}},
        {
            "type": "data-added",
            "data": [{"type": "Observation"}],
            "condition": {"language": "text/cql", "expression": "x"},
        },
    ],
    "Expression": [{"language": "text/fhirpath", "expression": "name"}, {"language": "a", "reference": "http://e.org"}],
}


NOT_DRAWN = {"modifierExtension", "implicitRules", "contained"}


def patients() -> st.SearchStrategy[JSONObject]:
    return resources("Patient")


def practitioners() -> st.SearchStrategy[JSONObject]:
    return resources("Practitioner")


def resources(resource_type: str) -> st.SearchStrategy[JSONObject]:
    resource = objects(resource_type, 3).map(lambda elements: {"resourceType": resource_type, **elements})
    return st.builds(with_contained_resource, resource, st.sampled_from([None, None, None, *CONTAINED]))


CONTAINED: list[JSONObject] = [
    {"resourceType": "Organization", "id": "c-1", "name": "A clinic", "telecom": [{"system": "phone", "value": "1"}]},
    {"resourceType": "Practitioner", "id": "c-1", "name": [{"text": "Grace"}], "birthDate": "1980"},
    {
        "resourceType": "Basic",
        "id": "c-1",
        "code": {"text": "a"},
        "_created": {"extension": [{"url": "http://e.org", "valueCode": "b"}]},
    },
]


def with_contained_resource(resource: JSONObject, contained: JSONObject | None) -> JSONObject:
    if contained is None:
        return resource
    extension = {"url": "http://example.org/about", "valueReference": {"reference": "#c-1"}}
    return {**resource, "contained": [contained], "extension": [*resource.get("extension", []), extension]}


@cache
def objects(type_name: str, depth: int) -> st.SearchStrategy[JSONObject]:
    """Values of a type. Of depth 0, their optional elements are primitive."""
    if type_name in SAMPLES:
        return st.sampled_from(SAMPLES[type_name]).map(deepcopy)
    definition = DEFINITIONS[type_name]
    elements: dict[str, list[Property]] = {}
    for known in definition.properties.values():
        is_small = known.is_primitive or known.type == "Reference" or known.type in SAMPLES
        if known.element in definition.required or (known.element not in NOT_DRAWN and (depth or is_small)):
            elements.setdefault(known.element, []).append(known)
    drawn = drawn_objects(definition, elements, max(depth - 1, 0))
    return drawn.map(CORRECTIONS[type_name]) if type_name in CORRECTIONS else drawn


@st.composite
def drawn_objects(
    draw: st.DrawFn, definition: Definition, elements: dict[str, list[Property]], depth: int
) -> JSONObject:
    optional = [element for element in elements if element not in definition.required]
    chosen = (
        draw(st.lists(st.sampled_from(optional), unique=True, max_size=8 if definition.is_resource else 3))
        if optional
        else []
    )
    if not definition.is_resource and not {*definition.required, *chosen} - {
        "id"
    }:  # ele-1: an `id` alone is no element
        chosen.append(next(element for element in optional if element not in ("id", "extension")))
    value: JSONObject = {}
    for element in [*definition.required, *chosen]:
        known = draw(st.sampled_from(elements[element]))
        item = values(known, depth)
        value[known.key] = draw(st.lists(item, min_size=1, max_size=2) if known.repeats else item)
        if has_companion(definition, known) and draw(st.integers(0, 7)) == 0:
            extension = {"id": draw(WORDS), "extension": [{"url": draw(URLS), "valueString": draw(TEXTS)}]}
            if known.repeats:
                value[f"_{known.key}"] = [*(None for _ in value[known.key]), extension]
                value[known.key].append(None)
            else:
                value[f"_{known.key}"] = extension
    return value


def values(known: Property, depth: int) -> st.SearchStrategy[Any]:
    if known.value_set:
        return st.sampled_from(OPEN_CODES.get(known.value_set) or VALUE_SETS[known.value_set])
    if known.is_primitive:
        return PRIMITIVES[known.type]
    if known.type == "Reference":
        return references(known)
    return objects(known.type, depth)


def references(known: Property) -> st.SearchStrategy[JSONObject]:
    types = st.sampled_from(sorted(known.targets) or ["Observation"])
    urls = st.builds("https://elsewhere.example/fhir/{}/{}".format, types, WORDS)
    identifiers = st.fixed_dictionaries({"system": URLS, "value": TEXTS})
    return st.one_of(
        st.fixed_dictionaries({"reference": urls}, optional={"display": TEXTS}),
        st.fixed_dictionaries({"identifier": identifiers, "type": types}),
        st.fixed_dictionaries({"display": TEXTS}),
    )


def corrected_attachment(value: JSONObject) -> JSONObject:
    return {"contentType": "image/png", **value} if "data" in value else value


def corrected_contact_point(value: JSONObject) -> JSONObject:
    return {"system": "other", **value} if "value" in value else value


def corrected_quantity(value: JSONObject) -> JSONObject:
    return {"system": UCUM, **value} if "code" in value else value


def corrected_contact(value: JSONObject) -> JSONObject:
    return {"name": {"text": "Ada"}, **value}


def corrected_period(value: JSONObject) -> JSONObject:
    if "start" in value and "end" in value and is_before(value["end"], value["start"]):
        return value | {"start": value["end"], "end": value["start"]}
    return value


def corrected_extension(value: JSONObject) -> JSONObject:
    """An extension with exactly one of a value and nested extensions."""
    has_value = any(key.startswith("value") for key in value)
    if has_value:
        return {key: item for key, item in value.items() if key != "extension"}
    return value if "extension" in value else value | {"valueBoolean": False}


CORRECTIONS: dict[str, Callable[[JSONObject], JSONObject]] = {
    "Attachment": corrected_attachment,
    "ContactPoint": corrected_contact_point,
    "Extension": corrected_extension,
    "Patient.contact": corrected_contact,
    "Period": corrected_period,
    "Quantity": corrected_quantity,
}
