"""A doctor as an R4 Practitioner (https://hl7.org/fhir/R4/practitioner.html), and back. See docs/fhir.md for the rules.

Where a doctor works is no part of a Practitioner but of a PractitionerRole, so `hospital` is left alone, as are the
years of experience.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from doctors.models import Doctor
from fhir.datatypes import as_line, fits, read_name, read_telecom, read_text, write_telecom
from fhir.elements import (
    RESOURCE_ORDER,
    ElementGroup,
    Elements,
    Incoming,
    Reading,
    ResourceMapping,
    instant,
    read_active,
)
from fhir.exceptions import Invalid
from fhir.issues import Issue

IDENTIFIER_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"
LICENSE = "MD"  # Medical License number, in IDENTIFIER_TYPES


def values_of_row(*names: str) -> Any:
    """The values of these columns, as the basis of a group."""
    return lambda row: [getattr(row, name) for name in names]


def read_qualification(elements: Elements) -> Reading:
    reading = Reading({"license_number": "", "specialization": ""})
    for column, candidates in (
        ("license_number", licenses_of(elements)),
        ("specialization", specializations_of(elements)),
    ):
        field: Any = Doctor._meta.get_field(column)
        for element, place, member, text in candidates:
            if text and fits(field, text):
                reading.use(element, place)
                reading.values[column] = text
                reading.sources[f"/{column}"] = f"Practitioner.{element}[{place}].{member}"
                break
    return reading


def licenses_of(elements: Elements) -> Iterator[tuple[str, int, str, str]]:
    """What may be the license number, the best first: an identifier of the type MD, the identifier of a qualification,
    any other identifier. Each with its element, its position there, the member and the text."""
    own = [
        (place, identifier)
        for place, identifier in enumerate(elements.get("identifier", []))
        if identifier.get("use") != "old"
    ]
    for place, identifier in own:
        if is_license(identifier):
            yield "identifier", place, "value", as_line(identifier.get("value"))
    for place, qualification in enumerate(elements.get("qualification", [])):
        for number, identifier in enumerate(qualification.get("identifier", [])):
            if identifier.get("use") != "old":
                yield "qualification", place, f"identifier[{number}].value", as_line(identifier.get("value"))
    for place, identifier in own:
        yield "identifier", place, "value", as_line(identifier.get("value"))


def is_license(identifier: Elements) -> bool:
    codings = identifier.get("type", {}).get("coding", [])
    return any(coding.get("system") == IDENTIFIER_TYPES and coding.get("code") == LICENSE for coding in codings)


def specializations_of(elements: Elements) -> Iterator[tuple[str, int, str, str]]:
    """What may be the specialization: of each qualification the text of its code, or the display of a coding."""
    for place, qualification in enumerate(elements.get("qualification", [])):
        code = qualification.get("code", {})
        yield "qualification", place, "code.text", as_line(code.get("text"))
        for number, coding in enumerate(code.get("coding", [])):
            yield "qualification", place, f"code.coding[{number}].display", as_line(coding.get("display"))


def write_qualification(row: Any) -> Elements:
    """R4 searches `identifier` alone, and wants a code of every qualification, so the license is an identifier."""
    found: Elements = {}
    if row.license_number:
        license_type = {"coding": [{"system": IDENTIFIER_TYPES, "code": LICENSE, "display": "Medical License number"}]}
        found["identifier"] = [{"type": license_type, "value": row.license_number}]
    if row.specialization:
        found["qualification"] = [{"code": {"text": row.specialization}}]
    return found


PRACTITIONER_COLUMNS = ("name", "license_number", "specialization", "phone", "email")
PRACTITIONER_MAPPING = ResourceMapping(
    "Practitioner",
    groups=[
        ElementGroup("text", ("text",), values_of_row(*PRACTITIONER_COLUMNS), read_text, lambda _: {}),
        ElementGroup(
            "qualification",
            ("identifier", "qualification"),
            values_of_row("license_number", "specialization"),
            read_qualification,
            write_qualification,
        ),
        ElementGroup("active", ("active",), values_of_row(), read_active, lambda _: {"active": True}),
        ElementGroup(
            "name",
            ("name",),
            values_of_row("name"),
            partial(read_name, expression="Practitioner"),
            lambda row: {"name": [{"text": row.name}]},
        ),
        ElementGroup(
            "telecom",
            ("telecom",),
            values_of_row("phone", "email"),
            partial(read_telecom, expression="Practitioner", model=Doctor, phones=("phone",)),
            lambda row: write_telecom([row.phone], row.email),
        ),
    ],
    order=[
        *RESOURCE_ORDER, "identifier", "active", "name", "telecom", "address", "gender", "birthDate", "photo",
        "qualification", "communication",
    ],
)  # fmt: skip


def read_practitioner(resource: Mapping[str, Any]) -> Incoming:
    """The values of a valid Practitioner for `DoctorSerializer`. Raises Invalid for one without a name."""
    incoming = PRACTITIONER_MAPPING.read(resource)
    if not incoming.values["name"]:
        detail = "Send a name with a text, or with a given or a family name."
        raise Invalid(Issue("required", detail, "Practitioner.name"))
    return incoming


def keep_practitioner(resource: Mapping[str, Any], row: Any) -> str:
    """The text for the column `fhir` of a row that has the values of this resource. Raises Invalid if it is too
    long."""
    return PRACTITIONER_MAPPING.keep(resource, row)


def write_practitioner(row: Any) -> dict[str, Any]:
    """The Practitioner of a row or of an event."""
    meta = {"versionId": str(row.version), "lastUpdated": instant(row.updated_at)}
    return PRACTITIONER_MAPPING.resource(PRACTITIONER_MAPPING.write(row, row.fhir), row.id, meta)
