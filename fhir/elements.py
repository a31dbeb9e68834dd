"""The elements of a resource that a row models, in groups, and those that are kept beside the row.

A resource that arrives is divided into groups of elements, such as `name` or `telecom`, and the rest. What the columns
of a group give back exactly as it was sent needs no keeping. Otherwise the elements of the group are kept as sent, with
a digest of the columns: they are given back until the columns have changed by other means than FHIR. From then on the
columns speak, followed by those entries of the kept lists that no column holds, such as a third phone number.

The column `fhir` holds `{"elements": {…}, "basis": {"<group>": "<digest>"}}` as JSON, or nothing.
"""

import datetime
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fhir.exceptions import Invalid
from fhir.issues import Issue
from fhir.json import decode_own, encode
from healthcare.model_fields import LARGEST_FHIR

Elements = dict[str, Any]  # by name, `_birthDate` included
SET_BY_SERVER = ("versionId", "_versionId", "lastUpdated", "_lastUpdated")  # of `meta`


@dataclass
class Reading:
    """What a group's elements say.

    values: for the serializer of the API.
    sources: the FHIRPath of the element that a value came from, by the JSON pointer of the value.
    used: the positions of the entries that the values came from, by the name of the list; of an element that is no
        list, {0}. They are not given back once the columns have changed.
    """

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    used: dict[str, set[int]] = field(default_factory=dict)

    def use(self, element: str, position: int = 0) -> None:
        self.used.setdefault(element, set()).add(position)


def read_active(_: Elements) -> Reading:
    """`active`, which the state of a record gives and no column holds."""
    reading = Reading()
    reading.use("active")
    return reading


@dataclass(frozen=True)
class ElementGroup:
    """Elements that columns model together.

    basis: what the written elements depend on, as a value that JSON knows.
    read: the elements' values. write: the elements of a row. `read` of what `write` gives has the row's values.
    """

    name: str
    elements: tuple[str, ...]
    basis: Callable[[Any], Any]
    read: Callable[[Elements], Reading]
    write: Callable[[Any], Elements]

    def pick(self, elements: Mapping[str, Any]) -> Elements:
        """The group's own among these elements, in their order in R4."""
        names = [name for element in self.elements for name in (element, f"_{element}")]
        return {name: elements[name] for name in names if name in elements}

    def digest(self, row: Any) -> str:
        text = json.dumps(self.basis(row), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def not_used(self, kept: Elements) -> Elements:
        """What no column holds of the kept elements: the other entries of lists, and elements that `read` ignores."""
        used = self.read(kept).used
        left: Elements = {}
        for name, value in kept.items():
            positions = used.get(name.removeprefix("_"), set())
            if isinstance(value, list):
                value = [entry for position, entry in enumerate(value) if position not in positions]
            elif positions:
                continue
            if value:
                left[name] = value
        return left


@dataclass(frozen=True)
class Incoming:
    """A resource as the serializer of the API takes it: every field that FHIR can state, empty where it states nothing.

    sources: the FHIRPath of the element that a value came from, by the JSON pointer of the value.
    """

    resource_type: str
    values: dict[str, Any]
    sources: dict[str, str]


def expression_of(incoming: Incoming, pointer: str) -> str:
    """The FHIRPath of the element that an error of the serializer is about, given the error's JSON pointer."""
    while pointer and pointer not in incoming.sources:
        pointer = pointer.rpartition("/")[0]
    return incoming.sources.get(pointer, incoming.resource_type)


@dataclass(frozen=True)
class Kept:
    elements: Elements
    basis: dict[str, str]


@dataclass(frozen=True)
class ResourceMapping:
    """The mapping of a type of resources.

    order: all elements of the type as R4 orders them.
    """

    resource_type: str
    groups: Sequence[ElementGroup]
    order: Sequence[str]

    def read(self, resource: Mapping[str, Any]) -> Incoming:
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        for group in self.groups:
            reading = group.read(group.pick(resource))
            values |= reading.values
            sources |= reading.sources
        return Incoming(self.resource_type, values, sources)

    def keep(self, resource: Mapping[str, Any], row: Any) -> str:
        """The text for the column `fhir` of a row that has the values of this resource. Raises Invalid if it is too
        long."""
        elements, basis = self.others(resource), {}
        for group in self.groups:
            sent = group.pick(resource)
            if sent and sent != group.write(row):
                elements |= sent
                basis[group.name] = group.digest(row)
        return kept_text(self.resource_type, elements, basis)

    def others(self, resource: Mapping[str, Any]) -> Elements:
        """The elements that no group has, but for those that the server sets."""
        grouped = {name for group in self.groups for name in group.pick(resource)}
        left = {name: resource[name] for name in resource if name not in grouped | {"resourceType", "id", "meta"}}
        meta = {name: value for name, value in resource.get("meta", {}).items() if name not in SET_BY_SERVER}
        return left | ({"meta": meta} if meta else {})

    def write(self, row: Any, kept: str) -> Elements:
        """The elements of a row, and those that were kept beside it, without `id` and `meta.versionId`."""
        if not kept:
            return {name: value for group in self.groups for name, value in group.write(row).items()}
        stored = read_kept(kept)
        found = self.others(stored.elements)
        for group in self.groups:
            found |= self.write_group(group, row, stored)
        return found

    def write_group(self, group: ElementGroup, row: Any, stored: Kept) -> Elements:
        kept = group.pick(stored.elements)
        if not kept:
            return group.write(row)
        if stored.basis.get(group.name) == group.digest(row):
            return kept
        written = group.write(row)
        left = group.not_used(kept)
        return left | {name: [*value, *left.get(name, [])] if isinstance(value, list) else value
                       for name, value in written.items()}  # fmt: skip

    def resource(self, elements: Elements, key: int, meta: Elements) -> dict[str, Any]:
        """The resource with these elements, in the order of R4."""
        kept_meta = elements.pop("meta", {})
        if kept_meta:
            meta = elements_in_order(kept_meta | meta, META_RANKS)
        complete = {"resourceType": self.resource_type, "id": str(key), "meta": meta} | elements
        return elements_in_order(complete, self.ranks)

    @cached_property
    def ranks(self) -> dict[str, int]:
        return ranks(["resourceType", *self.order])


def kept_text(resource_type: str, elements: Elements, basis: Mapping[str, str]) -> str:
    """The text for the column `fhir`. Raises Invalid if it is too long."""
    if not elements:
        return ""
    text = encode({"elements": elements, "basis": basis})
    if len(text.encode()) > LARGEST_FHIR:
        size = LARGEST_FHIR // 1024
        detail = f"What this resource has beyond the record's own fields is larger than {size} KiB; shorten it."
        raise Invalid(Issue("too-long", detail, resource_type))
    return text


def read_kept(text: str) -> Kept:
    if not text:
        return Kept({}, {})
    value = decode_own(text)
    return Kept(value["elements"], value["basis"])


RESOURCE_ORDER = (
    "id", "meta", "implicitRules", "language", "text", "contained", "extension", "modifierExtension",
)  # fmt: skip
META_ORDER = ("id", "extension", "versionId", "lastUpdated", "source", "profile", "security", "tag")


def instant(at: datetime.datetime) -> str:
    """An `instant` in UTC, with all digits of the time."""
    return at.astimezone(datetime.UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def ranks(order: Iterable[str]) -> dict[str, int]:
    """The place of each element in this order, and after it that of its companion (`_birthDate`)."""
    names = [name for element in order for name in (element, f"_{element}")]
    return {name: place for place, name in enumerate(names)}


def elements_in_order(elements: Elements, ranks: Mapping[str, int]) -> Elements:
    """The elements in the order of their ranks, unknown ones last."""
    return {name: elements[name] for name in sorted(elements, key=lambda name: ranks.get(name, len(ranks)))}


META_RANKS = ranks(META_ORDER)
