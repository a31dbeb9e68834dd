"""What is valid here is valid for fhirkit too, which was made by others from R4's own definitions."""

from collections.abc import Iterator
from copy import deepcopy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir.structure import check_structure
from fhir.tests.resources import JSONObject, patients, practitioners
from fhir.tests.validator import errors_by_fhirkit

EITHER = st.one_of(patients(), practitioners())
# Resources are large; what is slow is to draw them.
GENEROUS = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
ANYTHING: st.SearchStrategy[Any] = st.sampled_from(
    [
        None, "", {}, [], [None], [[]], 7, -1, True, Decimal("1.5"), "s", "a b", "2020-01-01", "2020-01-01T00:00:00Z",
        ["a"], {"text": "a"}, [{"text": "a"}], {"id": "a"}, {"extension": [{"url": "urn:a", "valueCode": "b"}]},
    ]
)  # fmt: skip


@GENEROUS
@given(EITHER)
def test_generated_resources_are_valid_for_it(resource: JSONObject):
    assert errors_by_fhirkit(resource) == []


def inner_values(value: Any) -> Iterator[dict[str, Any] | list[Any]]:
    if isinstance(value, dict | list):
        if value:
            yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from inner_values(item)


@st.composite
def changed_resources(draw: st.DrawFn) -> JSONObject:
    """A valid resource with one member set to anything, removed, moved elsewhere or given a companion."""
    # Of other contained types only the form of the JSON is checked here.
    resource: JSONObject = deepcopy(draw(EITHER.filter(lambda resource: "contained" not in resource)))
    places = list(inner_values(resource))
    parent: Any = draw(st.sampled_from(places))
    key = draw(st.sampled_from(list(parent) if isinstance(parent, dict) else range(len(parent))))
    change = draw(st.sampled_from(["set", "remove", "copy", "companion"]))
    if change == "set":
        parent[key] = draw(ANYTHING)
    elif change == "remove":
        del parent[key]
    elif isinstance(key, str):
        other: Any = draw(st.sampled_from([place for place in places if isinstance(place, dict)]))
        name, value = (key, deepcopy(parent[key])) if change == "copy" else (f"_{key}", draw(ANYTHING))
        other[name] = value
    return resource


@pytest.mark.slow
@GENEROUS
@given(changed_resources())
def test_what_it_refuses_is_refused_here(resource: JSONObject):
    if resource.get("resourceType") in ("Patient", "Practitioner") and errors_by_fhirkit(resource):
        assert check_structure(resource["resourceType"], resource) != []
