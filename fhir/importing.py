"""Reads the column `fhir` of a file that is imported, which only exports of this program write."""

import re
from typing import Any

from django.core.exceptions import ValidationError
from rest_framework.exceptions import ParseError

from fhir.elements import Elements, ResourceMapping, kept_text
from fhir.exceptions import Invalid
from fhir.json import decode_own
from fhir.references import LITERAL_REFERENCE
from fhir.structure import check_structure
from healthcare.api.parsers import check_storable

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # the form of a server's id
DIGEST = re.compile(r"[0-9a-f]{16}")
OWN_TYPES = {"Patient", "Practitioner", "CareTeam", "AuditEvent", "Provenance"}
NOT_WRITTEN_BY_EXPORT = "Write what an export has in this column, or leave it empty."


def read_column(mapping: ResourceMapping, text: str, server: str | None) -> str:
    """The text for the column `fhir` of a row, given that of a file, which comes from another server unless `server` is
    None. Raises Django's ValidationError.

    The ids of another server mean other records here, so that a literal reference to one of its records becomes a
    logical one: https://hl7.org/fhir/R4/references.html#logical.
    """
    elements, basis = parse(mapping, text)
    if server is not None:
        elements = with_logical_references(without_derived(elements), server)
    issues = check_structure(mapping.resource_type, {**with_version(elements), "resourceType": mapping.resource_type})
    if issues:
        raise ValidationError(f"{issues[0].expression}: {issues[0].diagnostics}", code="invalid")
    basis = {group.name: basis[group.name] for group in mapping.groups if group.name in basis and group.pick(elements)}
    try:
        return kept_text(mapping.resource_type, elements, basis)
    except Invalid as error:
        raise ValidationError(error.issues[0].diagnostics, code="invalid") from error


def parse(mapping: ResourceMapping, text: str) -> tuple[Elements, dict[str, str]]:
    try:
        value = decode_own(text)
        if not (isinstance(value, dict) and value.keys() == {"elements", "basis"}):
            raise ValueError
        check_storable(value, depth=0)  # `elements` is around what a body may have
        elements, basis = value["elements"], value["basis"]
        groups = {group.name for group in mapping.groups}
        if not (isinstance(elements, dict) and isinstance(basis, dict) and basis.keys() <= groups):
            raise ValueError
        if not all(isinstance(digest, str) and DIGEST.fullmatch(digest) for digest in basis.values()):
            raise ValueError
    except (ValueError, RecursionError, ParseError) as error:
        raise ValidationError(NOT_WRITTEN_BY_EXPORT, code="invalid") from error
    return elements, basis


def with_version(elements: Elements) -> Elements:
    """As they are given back: the server adds to `meta`, of which an `id` alone is no valid element."""
    meta = elements.get("meta")
    return elements | {"meta": meta | {"versionId": "1"}} if meta and isinstance(meta, dict) else elements


def without_derived(elements: Elements) -> Elements:
    """Without the practitioners of that server: who is the general practitioner, its assignments say."""
    listed = elements.get("generalPractitioner")
    if not isinstance(listed, list):
        return elements
    left = [one for one in listed if not (isinstance(one, dict) and type_of_record(one) == "Practitioner")]
    others = {name: value for name, value in elements.items() if name != "generalPractitioner"}
    return others | ({"generalPractitioner": left} if left else {})


def with_logical_references(value: Any, server: str) -> Any:
    """A copy, in which a Reference to a record of the server says so by an identifier, if it has none."""
    if isinstance(value, list):
        return [with_logical_references(part, server) for part in value]
    if not isinstance(value, dict):
        return value
    copied = {name: with_logical_references(part, server) for name, part in value.items()}
    target = type_of_record(copied)
    if target is None:
        return copied
    identifier = {"system": f"urn:uuid:{server}"} if UUID.fullmatch(server) else {}
    logical = {"type": target, "identifier": identifier | {"value": copied.pop("reference")}}
    copied.pop("_reference", None)
    return logical | copied


def type_of_record(value: Elements) -> str | None:
    """The type of the record on its own server that this JSON object refers to, if it is such a Reference."""
    reference = value.get("reference")
    match = LITERAL_REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
    is_own = match is not None and match["base"] is None and match["type"] in OWN_TYPES and "resourceType" not in value
    return match["type"] if match and is_own else None
