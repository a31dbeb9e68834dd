"""R4's invariants of the types that clients may write, by their keys: https://hl7.org/fhir/R4/conformance-rules.html.

An invariant is checked on values of the right types, so it need not be careful about them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from fhir.primitives import is_before

UCUM = "http://unitsofmeasure.org"
Value = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Invariant:
    holds: Callable[[Value], bool]
    diagnostics: str


def has(value: Value, element: str) -> bool:
    """Whether an element is there: with a value, or with extensions alone. Choices are asked for by their keys."""
    return element in value or f"_{element}" in value


def has_choice(value: Value, element: str) -> bool:
    return any(key.removeprefix("_").startswith(element) for key in value)


def starts_before_its_end(period: Value) -> bool:
    return "start" not in period or "end" not in period or not is_before(period["end"], period["start"])


def is_ordered(range_: Value) -> bool:
    """Whether low is at most high, as far as they can be compared: with the same unit."""
    low, high = range_.get("low", {}), range_.get("high", {})
    if "value" not in low or "value" not in high:
        return True
    same_unit = all(low.get(part) == high.get(part) for part in ("system", "code", "unit"))
    return not same_unit or bool(low["value"] <= high["value"])


def is_in_ucum(quantity: Value) -> bool:
    """Whether a value has a code, and the system, if there is one, is UCUM."""
    return (has(quantity, "code") or not has(quantity, "value")) and quantity.get("system", UCUM) == UCUM


def is_whole(value: int | Decimal) -> bool:
    return isinstance(value, int) or "." not in str(value)


def has_one_of(value: Value, *elements: str) -> bool:
    return sum(has(value, element) for element in elements) == 1


def is_complete_trigger(trigger: Value) -> bool:
    kind = trigger.get("type", "")
    return (
        (kind != "named-event" or has(trigger, "name"))
        and (kind != "periodic" or has_choice(trigger, "timing"))
        and (not kind.startswith("data-") or has(trigger, "data"))
    )


SYSTEM_OF_THE_CODE = Invariant(
    lambda it: not has(it, "code") or has(it, "system"), "Send the `system` of the unit's code (qty-3)."
)
EITHER_PATH_OR_PARAMETER = Invariant(
    lambda it: has_one_of(it, "path", "searchParam"), "Send either `path` or `searchParam` (drq-1, drq-2)."
)
EITHER_VALUE_OR_PARTS = Invariant(
    lambda it: (has_choice(it, "value") + has(it, "resource") + has(it, "part")) == 1,
    "Send exactly one of a value, `resource` and `part` (inv-1).",
)

INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "Age": (
        SYSTEM_OF_THE_CODE,
        Invariant(
            lambda it: is_in_ucum(it) and it.get("value", 1) > 0, "Send a positive value with a code of UCUM (age-1)."
        ),
    ),
    "Attachment": (
        Invariant(lambda it: not has(it, "data") or has(it, "contentType"), "Send `contentType` with `data` (att-1)."),
    ),
    "Bundle.entry": (
        Invariant(
            lambda it: has(it, "resource") or has(it, "request") or has(it, "response"),
            "Send `resource`, `request` or `response` (bdl-5).",
        ),
        Invariant(
            lambda it: "/_history/" not in it.get("fullUrl", ""),
            "Send a `fullUrl` that does not refer to a version (bdl-8).",
        ),
    ),
    "ContactPoint": (
        Invariant(lambda it: not has(it, "value") or has(it, "system"), "Send `system` with `value` (cpt-2)."),
    ),
    "Count": (
        SYSTEM_OF_THE_CODE,
        Invariant(
            lambda it: is_in_ucum(it) and it.get("code", "1") == "1" and is_whole(it.get("value", 1)),
            'Send a whole number with the code "1" of UCUM (cnt-3).',
        ),
    ),
    "DataRequirement.codeFilter": (EITHER_PATH_OR_PARAMETER,),
    "DataRequirement.dateFilter": (EITHER_PATH_OR_PARAMETER,),
    "Distance": (SYSTEM_OF_THE_CODE, Invariant(is_in_ucum, "Send a code of UCUM with a value (dis-1).")),
    "Duration": (
        SYSTEM_OF_THE_CODE,
        Invariant(
            lambda it: not has(it, "code") or (it.get("system") == UCUM and has(it, "value")),
            "Send a code of UCUM with a value (drt-1).",
        ),
    ),
    "Expression": (
        Invariant(
            lambda it: has(it, "expression") or has(it, "reference"), "Send `expression` or `reference` (exp-1)."
        ),
    ),
    "Extension": (
        Invariant(
            lambda it: has(it, "extension") != has_choice(it, "value"),
            "Send either one value or nested extensions (ext-1).",
        ),
    ),
    "Parameters.parameter": (EITHER_VALUE_OR_PARTS,),
    "Patient.contact": (
        Invariant(
            lambda it: any(has(it, element) for element in ("name", "telecom", "address", "organization")),
            "Send a name, telecom, address or organization (pat-1).",
        ),
    ),
    "Period": (Invariant(starts_before_its_end, "Send a `start` that is not after `end` (per-1)."),),
    "Quantity": (SYSTEM_OF_THE_CODE,),
    "Range": (Invariant(is_ordered, "Send a `low` that is not above `high` (rng-2)."),),
    "Ratio": (
        Invariant(
            lambda it: (
                has(it, "numerator") == has(it, "denominator") and (has(it, "numerator") or has(it, "extension"))
            ),
            "Send both `numerator` and `denominator`, or only extensions (rat-1).",
        ),
    ),
    "SimpleQuantity": (
        SYSTEM_OF_THE_CODE,
        Invariant(lambda it: not has(it, "comparator"), "Send this quantity without `comparator` (sqty-1)."),
    ),
    "Timing.repeat": (
        Invariant(
            lambda it: not has(it, "duration") or has(it, "durationUnit"),
            "Send `durationUnit` with `duration` (tim-1).",
        ),
        Invariant(
            lambda it: not has(it, "period") or has(it, "periodUnit"), "Send `periodUnit` with `period` (tim-2)."
        ),
        Invariant(lambda it: it.get("duration", 0) >= 0, "Send a `duration` that is not negative (tim-4)."),
        Invariant(lambda it: it.get("period", 0) >= 0, "Send a `period` that is not negative (tim-5)."),
        Invariant(lambda it: not has(it, "periodMax") or has(it, "period"), "Send `period` with `periodMax` (tim-6)."),
        Invariant(
            lambda it: not has(it, "durationMax") or has(it, "duration"), "Send `duration` with `durationMax` (tim-7)."
        ),
        Invariant(lambda it: not has(it, "countMax") or has(it, "count"), "Send `count` with `countMax` (tim-8)."),
        Invariant(
            lambda it: (
                not has(it, "offset") or (has(it, "when") and not {"C", "CM", "CD", "CV"} & {*it.get("when", [])})
            ),
            "Send `when` with `offset`, and none of C, CM, CD and CV (tim-9).",
        ),
        Invariant(
            lambda it: not has(it, "timeOfDay") or not has(it, "when"), "Send either `timeOfDay` or `when` (tim-10)."
        ),
    ),
    "TriggerDefinition": (
        Invariant(
            lambda it: not has(it, "data") or not has_choice(it, "timing"), "Send either a timing or `data` (trd-1)."
        ),
        Invariant(lambda it: not has(it, "condition") or has(it, "data"), "Send `data` with `condition` (trd-2)."),
        Invariant(
            is_complete_trigger,
            "Send a name for a named event, a timing for a periodic event, `data` for a data event (trd-3).",
        ),
    ),
}


def broken_rules_of_bundle(bundle: Value) -> Iterator[tuple[str, str]]:
    """The elements of a Bundle that break its invariants, and what to do about each."""
    kind = bundle.get("type")
    if has(bundle, "total") and kind not in ("searchset", "history"):
        yield "total", "Send `total` only in a searchset or history (bdl-1)."
    has_requests = kind in ("batch", "transaction", "history")
    has_responses = kind in ("batch-response", "transaction-response", "history")
    known: set[tuple[str, str]] = set()
    for index, entry in enumerate(bundle.get("entry", [])):
        if has(entry, "search") and kind != "searchset":
            yield f"entry[{index}].search", "Send `search` only in a searchset (bdl-2)."
        if has(entry, "request") != has_requests:
            yield (
                f"entry[{index}].request",
                "Send `request` in a batch, transaction or history, and only there (bdl-3).",
            )
        if has(entry, "response") != has_responses:
            yield f"entry[{index}].response", "Send `response` in the response to a batch, and only there (bdl-4)."
        if "fullUrl" in entry and kind != "history":
            version = entry.get("resource", {}).get("meta", {}).get("versionId", "")
            if (entry["fullUrl"], version) in known:
                yield f"entry[{index}].fullUrl", "Send each `fullUrl` once (bdl-7)."
            known.add((entry["fullUrl"], version))
