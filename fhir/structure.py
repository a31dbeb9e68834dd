"""Whether JSON is a valid FHIR R4 resource: its structure, values, required codes and invariants.

The rules of the JSON form are those of https://hl7.org/fhir/R4/json.html.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any

from fhir.definitions import DEFINITIONS, Definition, Property
from fhir.invariants import INVARIANTS, broken_rules_of_bundle
from fhir.issues import Issue
from fhir.narrative import NarrativeError, check_narrative
from fhir.primitives import OPEN_VALUE_SETS, PRIMITIVES
from fhir.value_sets import RESOURCE_TYPES, VALUE_SETS

MAXIMUM_ISSUES = 20
MAXIMUM_LISTED_CODES = 12
PRINTABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
TYPED_REFERENCE = re.compile(r"(?:^|/)([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?$")
NOT_DOMAIN_RESOURCES = {"Binary", "Bundle", "Parameters"}
BASES = {"Resource", "DomainResource"}
REFUSED_ELEMENTS = {
    # R4: an implementation must not process a resource whose modifier extensions it does not know.
    "modifierExtension": ("extension", "Remove the unknown modifier extension; this server knows none."),
    "implicitRules": ("not-supported", "Remove `implicitRules`; this server knows no such rules."),
}
NULL = "Leave the element out instead of sending null."


class TooManyIssuesError(Exception):
    """Ends the check."""


def check_structure(resource_type: str, resource: Mapping[str, Any]) -> list[Issue]:
    """The first 20 issues of a decoded JSON object that shall be a resource of the type; none if it is valid.

    Numbers are int or Decimal. The caller bounds depth and size.
    """
    check = StructureCheck()
    if resource.get("resourceType") != resource_type:
        return [Issue("structure", f"Send a resource with the `resourceType` {resource_type}.", resource_type)]
    with suppress(TooManyIssuesError):
        check.resource(resource, resource_type)
    return check.issues


class StructureCheck:
    """Walks through a resource. `place` is always the FHIRPath of what is checked."""

    def __init__(self) -> None:
        self.issues: list[Issue] = []
        self.contained_ids: frozenset[str] = frozenset()

    def report(self, code: str, diagnostics: str, place: str) -> None:
        self.issues.append(Issue(code, diagnostics, place))
        if len(self.issues) == MAXIMUM_ISSUES:
            raise TooManyIssuesError

    def resource(self, value: Any, place: str) -> None:
        """Check a resource that contains others, but is not contained."""
        if not self.is_object(value, place):
            return
        outer_ids, found = self.contained_ids, len(self.issues)
        self.contained_ids = frozenset(contained_ids(value.get("contained")))
        definition = self.definition_of(value, place)
        if definition is not None:
            self.object(definition, value, place)
            if "contained" in definition.properties and "contained" in value and len(self.issues) == found:
                self.contained_resources(value, place)
            if definition.name == "Bundle" and len(self.issues) == found:
                for element, diagnostics in broken_rules_of_bundle(value):
                    self.report("invariant", diagnostics, f"{place}.{element}")
        self.contained_ids = outer_ids

    def contained_resource(self, value: Any, place: str) -> None:
        definition = self.definition_of(value, place) if self.is_object(value, place) else None
        if definition is None:
            return
        if "id" not in value:
            self.report("required", "Send the `id` of a contained resource.", f"{place}.id")
        if "contained" in value:
            self.report("invariant", "Send no contained resources in a contained one (dom-2).", f"{place}.contained")
            return
        self.object(definition, value, place)

    def contained_resources(self, resource: Mapping[str, Any], place: str) -> None:
        """The rules of the contained resources together, which are valid otherwise."""
        references = set(local_references(resource))
        known: set[str] = set()
        for index, contained in enumerate(resource["contained"]):
            here = f"{place}.contained[{index}]"
            if contained["id"] in known:
                self.report("duplicate", "Send each `id` of a contained resource once.", f"{here}.id")
            known.add(contained["id"])
            if f"#{contained['id']}" not in references and "#" not in local_references(contained):
                self.report("invariant", "Refer to the contained resource from the resource (dom-3).", here)
            meta = contained.get("meta", {})
            if not meta.keys().isdisjoint({"versionId", "_versionId", "lastUpdated", "_lastUpdated"}):
                self.report("invariant", "Send no version or time of a contained resource (dom-4).", f"{here}.meta")
            if "security" in meta:
                self.report("invariant", "Send no security labels of a contained resource (dom-5).", f"{here}.meta")

    def definition_of(self, resource: Mapping[str, Any], place: str) -> Definition | None:
        name = resource.get("resourceType")
        if not isinstance(name, str) or name not in RESOURCE_TYPES:
            self.report("structure", "Send `resourceType` with the name of a resource type of R4.", place)
            return None
        return DEFINITIONS.get(name) or DEFINITIONS["Resource" if name in NOT_DOMAIN_RESOURCES else "DomainResource"]

    def is_object(self, value: Any, place: str) -> bool:
        if isinstance(value, dict) and value:
            return True
        self.report("structure", NULL if value is None else "Send a JSON object that is not empty.", place)
        return False

    def object(self, definition: Definition, value: Mapping[str, Any], place: str) -> None:
        """Check the elements of a resource or datatype, then its invariants."""
        found = len(self.issues)
        is_open = definition.name in BASES  # the other elements of the resource's type are not known here
        elements: dict[str, Property] = {}
        for key, item in value.items():
            if definition.is_resource and key == "resourceType":
                continue
            name = key.removeprefix("_")
            known = definition.properties.get(name)
            if known is None and is_open:
                self.unknown_type(value, key, item, place)
            elif known is None or (name != key and not has_companion(definition, known)):
                self.report("structure", "R4 does not know this element; remove it.", place_of(place, key))
            elif elements.setdefault(known.element, known) is not known:
                self.report("structure", "Send a value of one type only.", f"{place}.{known.element}")
            elif name == key or name not in value:  # a companion is checked beside its value
                self.element(known, value, f"{place}.{known.element}")
        for element in definition.required:
            if element not in elements:
                self.report("required", "Send this element; R4 requires it.", f"{place}.{element}")
        if len(self.issues) == found:
            for invariant in INVARIANTS.get(definition.name, ()):
                if not invariant.holds(value):
                    self.report("invariant", invariant.diagnostics, place)
            if definition.name == "Reference":
                self.local_reference(value, place)

    def datatype(self, type_name: str, value: Any, place: str) -> None:
        if self.is_object(value, place):
            if value.keys() == {"id"}:
                self.report("invariant", "Send an element with more than an `id` (ele-1).", place)
            self.object(DEFINITIONS[type_name], value, place)

    def local_reference(self, reference: Mapping[str, Any], place: str) -> None:
        target = reference.get("reference", "")
        # A contained resource refers to the one that contains it by "#".
        if target.startswith("#") and target != "#" and target[1:] not in self.contained_ids:
            self.report("invariant", "Refer to a resource in `contained` (ref-1).", f"{place}.reference")

    def element(self, known: Property, value: Mapping[str, Any], place: str) -> None:
        if known.key in REFUSED_ELEMENTS:
            self.report(*REFUSED_ELEMENTS[known.key], place)
            return
        companions = value.get(f"_{known.key}") if known.is_primitive else None
        has_companions = known.is_primitive and f"_{known.key}" in value
        item = value.get(known.key)
        if not known.repeats:
            if known.key in value:
                self.item(known, item, place, companions is not None)
            if has_companions:
                self.companion(companions, place, known.key in value)
            return
        for part, name in ((item, known.key), (companions, f"_{known.key}")):
            if name in value and not (isinstance(part, list) and part):
                self.report("structure", NULL if part is None else "Send a JSON array that is not empty.", place)
                return
        self.entries(known, item, companions, place)

    def entries(self, known: Property, items: list[Any] | None, companions: list[Any] | None, place: str) -> None:
        if items is not None and companions is not None and len(items) != len(companions):
            self.report("structure", "Send as many entries in the array as in its companion, with nulls.", place)
            return
        for index in range(len(items if items is not None else companions or ())):
            here = f"{place}[{index}]"
            item = items[index] if items is not None else None
            companion = companions[index] if companions is not None else None
            if item is not None or companion is None:
                self.item(known, item, here, companion is not None)
            if companion is not None:
                self.companion(companion, here, item is not None)

    def item(self, known: Property, item: Any, place: str, has_companion: bool) -> None:
        """Check one value of an element."""
        if item is None:
            self.report("structure", NULL, place)
        elif known.is_primitive:
            self.primitive(known, item, place)
        elif known.type == "Resource":
            (self.contained_resource if known.element == "contained" else self.resource)(item, place)
        else:
            found = len(self.issues)
            self.datatype(known.type, item, place)
            if known.targets and len(self.issues) == found:
                self.target(known, item, place)

    def companion(self, value: Any, place: str, has_value: bool) -> None:
        """Check the `id` and extensions of a primitive, which stand under its name with an underscore."""
        if self.is_object(value, place):
            if not has_value and "extension" not in value:
                self.report("invariant", "Send a value or extensions (ele-1).", place)
            self.object(DEFINITIONS["Element"], value, place)

    def primitive(self, known: Property, item: Any, place: str) -> None:
        if known.type == "xhtml":
            self.narrative(item, place)
            return
        is_valid, diagnostics = PRIMITIVES[known.type]
        if not is_valid(item):
            wrong_type = type(item) is not python_type(known.type)
            self.report("structure" if wrong_type else "value", diagnostics, place)
        elif known.value_set in OPEN_VALUE_SETS:
            is_valid, diagnostics = OPEN_VALUE_SETS[known.value_set]
            if not is_valid(item):
                self.report("code-invalid", diagnostics, place)
        elif known.value_set and item not in VALUE_SETS[known.value_set]:
            codes = VALUE_SETS[known.value_set]
            listed = f"one of {', '.join(codes)}" if len(codes) <= MAXIMUM_LISTED_CODES else "a code"
            self.report("code-invalid", f"Send {listed} (R4's value set {known.value_set}).", place)

    def narrative(self, item: Any, place: str) -> None:
        if not isinstance(item, str):
            self.report("structure", "Send the XHTML as a string.", place)
            return
        try:
            check_narrative(item)
        except NarrativeError as error:
            self.report("invariant", str(error), place)

    def target(self, known: Property, reference: Mapping[str, Any], place: str) -> None:
        """Check the type of what is referred to, as far as the reference tells it."""
        match = TYPED_REFERENCE.search(reference.get("reference", ""))
        for element, name in (("reference", match and match[1]), ("type", reference.get("type"))):
            if name in RESOURCE_TYPES and name not in known.targets:
                names = ", ".join(sorted(known.targets))
                self.report("value", f"Refer to a resource of the type {names}.", f"{place}.{element}")

    def unknown_type(self, parent: Mapping[str, Any], key: str, value: Any, place: str) -> None:
        """Check the JSON of a member of a type that is not defined here."""
        here = place_of(place, key)
        if key in REFUSED_ELEMENTS:
            self.report(*REFUSED_ELEMENTS[key], here)
        elif key.startswith("_"):
            self.unknown_companion(parent.get(key.removeprefix("_")), value, here)
        elif isinstance(value, list):
            companions = parent.get(f"_{key}")
            if not value:
                self.report("structure", "Send a JSON array that is not empty.", here)
            for index, item in enumerate(value):
                if item is not None or not isinstance(companions, list):
                    self.unknown_value(item, f"{here}[{index}]")
        else:
            self.unknown_value(value, here)

    def unknown_value(self, value: Any, place: str) -> None:
        if value is None:
            self.report("structure", NULL, place)
        elif isinstance(value, list):
            self.report("structure", "Send no array in an array.", place)
        elif isinstance(value, str):
            if not value.strip():
                self.report("structure", "Leave the element out instead of sending an empty string.", place)
        elif isinstance(value, dict) and self.is_object(value, place):
            for key, item in value.items():
                self.unknown_type(value, key, item, place)

    def unknown_companion(self, value: Any, companion: Any, place: str) -> None:
        if not isinstance(companion, list):
            if isinstance(value, list | dict):
                self.report("structure", "Send a companion of the form of its value.", place)
            else:
                self.companion(companion, place, value is not None)
            return
        items = [None] * len(companion) if value is None else value
        if not companion or not isinstance(items, list) or len(items) != len(companion):
            self.report("structure", "Send as many entries in the array as in its companion, with nulls.", place)
            return
        for index, (item, entry) in enumerate(zip(items, companion, strict=True)):
            if entry is not None:
                self.companion(entry, f"{place}[{index}]", item is not None)
            elif item is None:
                self.report("structure", NULL, f"{place}[{index}]")


def has_companion(definition: Definition, known: Property) -> bool:
    """Whether a primitive can have extensions: not an attribute of R4's XML form, nor XHTML."""
    is_attribute = known.key == "id" or (definition.name, known.key) == ("Extension", "url")
    return known.is_primitive and known.type != "xhtml" and not is_attribute


def python_type(primitive: str) -> type:
    if primitive == "boolean":
        return bool
    if primitive in ("integer", "positiveInt", "unsignedInt"):
        return int
    return Decimal if primitive == "decimal" else str


def place_of(place: str, key: str) -> str:
    """The FHIRPath of a member, or of its parent if the key is no name: nothing that looks like a value is repeated."""
    return f"{place}.{key.removeprefix('_')}" if PRINTABLE_NAME.fullmatch(key) else place


def contained_ids(contained: Any) -> Iterator[str]:
    for resource in contained if isinstance(contained, list) else ():
        if isinstance(resource, dict) and isinstance(resource.get("id"), str):
            yield resource["id"]


def local_references(value: Any) -> Iterator[str]:
    """All strings that refer to a contained resource, or could."""
    if isinstance(value, str):
        if value.startswith("#"):
            yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from local_references(item)
