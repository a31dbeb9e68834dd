"""Resources to check the structure of, and what is said about them."""

from typing import Any

from fhir.structure import check_structure
from fhir.tests.resources import JSONObject

DIV = '<div xmlns="http://www.w3.org/1999/xhtml">{}</div>'
UCUM = {"system": "http://unitsofmeasure.org"}


def issues_of(**elements: Any) -> list[str]:
    """The codes and expressions of a Patient with these elements."""
    return summary("Patient", patient(**elements))


def summary(resource_type: str, resource: JSONObject) -> list[str]:
    return [f"{issue.code} {issue.expression}" for issue in check_structure(resource_type, resource)]


def patient(**elements: Any) -> JSONObject:
    return {"resourceType": "Patient", **elements}


def with_extension(**value: Any) -> JSONObject:
    return patient(extension=[{"url": "http://example.org/a", **value}])
