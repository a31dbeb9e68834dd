"""R4's data types as columns hold them, and back (https://hl7.org/fhir/R4/datatypes.html)."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Field

from fhir.elements import Elements, Reading
from healthcare.characters import visible_text

ROW_BREAKS = re.compile(r"\s*[\t\r\n\u2028\u2029]+\s*")
# The uses of HumanName.use, the best for a record first. None: no use is given.
CURRENT_NAMES = ("official", "usual", None)
USES_OF_NAMES = (*CURRENT_NAMES, "anonymous", "nickname", "temp", "maiden", "old")


def as_line(text: Any) -> str:
    """The text as a column of one line takes it; empty if nothing of it can be seen."""
    return visible_text(ROW_BREAKS.sub(" ", text).strip()).strip() if isinstance(text, str) else ""


def joined(separator: str, *parts: Any) -> str:
    """The parts, each a text, a list of texts or None, in one line."""
    texts = [text for part in parts for text in (part if isinstance(part, list) else [part])]
    return separator.join(line for text in texts if (line := as_line(text)))


def fits(field: Field, text: str) -> bool:
    """Whether a column takes this text."""
    try:
        field.clean(text, None)
    except ValidationError:
        return False
    return True


def name_of(name: Elements) -> tuple[str, str]:
    """The text of a HumanName and the member that has it: `text`, or nothing where its parts are joined."""
    text = as_line(name.get("text"))
    if text:
        return text, ".text"
    return joined(" ", name.get("prefix"), name.get("given"), name.get("family"), name.get("suffix")), ""


def read_name(elements: Elements, expression: str) -> Reading:
    """The name that is official, else usual, else of no stated use, and only then any other one.

    Once the column has another name, no name of these three uses is true any more.
    """
    reading = Reading()
    named = [(place, name, *name_of(name)) for place, name in enumerate(elements.get("name", []))]
    usable = [found for found in named if found[2]]
    reading.values["name"] = ""
    if usable:
        place, _, text, member = min(usable, key=lambda found: rank_of_use(found[1]))
        for position, name in enumerate(elements["name"]):
            if position == place or name.get("use") in CURRENT_NAMES:
                reading.use("name", position)
        reading.values["name"] = text
        reading.sources["/name"] = f"{expression}.name[{place}]{member}"
    else:
        reading.sources["/name"] = f"{expression}.name"
    return reading


def rank_of_use(name: Elements) -> int:
    use = name.get("use")
    return USES_OF_NAMES.index(use) if use in USES_OF_NAMES else len(USES_OF_NAMES)


def phones_of(telecom: Sequence[Elements], field: Field) -> list[tuple[int, str, int]]:
    """The position, the number and the rank of each phone that the column takes and that is in use, the preferred
    first. Without a `rank` a number is as preferred as one of rank 1."""
    found = [
        (place, point["value"], point.get("rank", 1))
        for place, point in points_in_use(telecom, "phone")
        if fits(field, as_line(point["value"]))
    ]
    return sorted(found, key=lambda phone: phone[2])


def points_in_use(telecom: Sequence[Elements], system: str) -> Iterable[tuple[int, Elements]]:
    """Each ContactPoint of this system that has a value and is not old, with its position."""
    for place, point in enumerate(telecom):
        if point.get("system") == system and point.get("use") != "old" and as_line(point.get("value")):
            yield place, point


def read_telecom(elements: Elements, expression: str, model: Any, phones: Sequence[str]) -> Reading:
    """The phones, in the order of their rank, and the e-mail. `phones` names the columns of the phones."""
    reading = Reading(dict.fromkeys([*phones, "email"], ""))
    telecom = elements.get("telecom", [])
    found = phones_of(telecom, model._meta.get_field(phones[0]))
    # A row may have its second phone alone: see `write_telecom`.
    columns = phones[1:] if len(found) == 1 and found[0][2] > 1 and phones[1:] else phones
    chosen = [(column, place, value) for column, (place, value, _) in zip(columns, found, strict=False)]
    for place, point in points_in_use(telecom, "email"):
        if fits(model._meta.get_field("email"), as_line(point["value"])):
            chosen.append(("email", place, point["value"]))
            break
    for column, place, value in chosen:
        reading.use("telecom", place)
        reading.values[column] = as_line(value)
        reading.sources[f"/{column}"] = f"{expression}.telecom[{place}].value"
    return reading


def write_telecom(phones: Sequence[str], email: str) -> Elements:
    """The points of contact. A second phone without a first one has the rank 2, which tells it from a first one."""
    points: list[Elements] = []
    for number, phone in enumerate(phones, start=1):
        if phone:
            rank = {} if number == 1 or phones[0] else {"rank": number}
            points.append({"system": "phone", "value": phone} | rank)
    if email:
        points.append({"system": "email", "value": email})
    return {"telecom": points} if points else {}


def read_text(elements: Elements) -> Reading:
    """A narrative that was generated of the other elements is out of date once they have changed; R4 wants both to
    agree (narrative.html). One with additional information stays."""
    reading = Reading()
    if elements.get("text", {}).get("status") != "additional":
        reading.use("text")
    return reading
