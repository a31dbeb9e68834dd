"""A patient as an R4 Patient (https://hl7.org/fhir/R4/patient.html), and back. See docs/fhir.md for the rules."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from fhir.datatypes import (
    as_line,
    fits,
    joined,
    name_of,
    phones_of,
    read_name,
    read_telecom,
    read_text,
    write_telecom,
)
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
from healthcare.model_fields import LineField, NameField
from patients.models import Gender, Patient

MOST_IDENTIFIERS = 20
MOST_CONTACTS = 10
VISIBLE_LINE = NameField()  # as a system, a value and the name of a contact are validated
RELATIONSHIP = LineField(max_length=100)
LANGUAGE_TAGS = "urn:ietf:bcp:47"
ABSOLUTE_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")  # RFC 3986
WORDS_OF_GENDERS = {code: word for code, word in Gender.choices if code != Gender.UNKNOWN}


@dataclass(frozen=True)
class PatientState:
    """A patient's row, or a past one, and what other rows say about it.

    practitioner: the doctor of the primary assignment. survivor: the record that this one was merged into.
    """

    row: Any
    practitioner: tuple[int, str] | None = None
    survivor: int | None = None


def values_of_state(*names: str) -> Any:
    """The values of these columns, as the basis of a group."""
    return lambda state: [getattr(state.row, name) for name in names]


def write_name(state: PatientState) -> Elements:
    return {"name": [{"text": state.row.name}]}


def read_gender(elements: Elements) -> Reading:
    reading = Reading({"gender": elements.get("gender", "unknown")}, {"/gender": "Patient.gender"})
    reading.use("gender")
    return reading


def write_gender(state: PatientState) -> Elements:
    """An unknown gender is left out, as a patient of whom nothing was said has it."""
    return {"gender": WORDS_OF_GENDERS[state.row.gender]} if state.row.gender in WORDS_OF_GENDERS else {}


def read_birth(elements: Elements) -> Reading:
    date = elements.get("birthDate", "")  # YYYY, YYYY-MM or YYYY-MM-DD
    source = "Patient.birthDate"
    reading = Reading(
        {"birth_date": date if len(date) == len("YYYY-MM-DD") else None, "birth_year": int(date[:4]) if date else None},
        {"/birth_date": source, "/birth_year": source},
    )
    reading.use("birthDate")
    return reading


def write_birth(state: PatientState) -> Elements:
    if state.row.birth_date:
        return {"birthDate": state.row.birth_date.isoformat()}
    return {"birthDate": f"{state.row.birth_year:04}"} if state.row.birth_year else {}


def read_death(elements: Elements) -> Reading:
    time = elements.get("deceasedDateTime", "")
    date = time[: len("YYYY-MM-DD")]  # as it was written, whatever its time zone
    reading = Reading(
        {
            "deceased": True if time else elements.get("deceasedBoolean"),
            "deceased_on": date if len(date) == len("YYYY-MM-DD") else None,
        },
        {"/deceased": "Patient.deceased", "/deceased_on": "Patient.deceased"},
    )
    reading.use("deceasedBoolean")
    reading.use("deceasedDateTime")
    return reading


def write_death(state: PatientState) -> Elements:
    if state.row.deceased_on:
        return {"deceasedDateTime": state.row.deceased_on.isoformat()}
    return {} if state.row.deceased is None else {"deceasedBoolean": state.row.deceased}


def read_identifiers(elements: Elements) -> Reading:
    """The clinic's own number has neither a system nor a text for its type. Numbers that are too long for a column, or
    that repeat one, are kept only."""
    reading = Reading({"identifier": "", "identifiers": []})
    own_number, listed = Patient._meta.get_field("identifier"), reading.values["identifiers"]
    for place, identifier in enumerate(elements.get("identifier", [])):
        value = as_line(identifier.get("value"))
        system, member = system_of(identifier)
        pair = {"system": system, "value": value}
        source = f"Patient.identifier[{place}]"
        if not value:
            continue
        if system:
            if pair in listed or len(listed) == MOST_IDENTIFIERS or not is_storable_pair(pair):
                continue
            reading.sources[f"/identifiers/{len(listed)}"] = source
            reading.sources[f"/identifiers/{len(listed)}/system"] = f"{source}.{member}"
            reading.sources[f"/identifiers/{len(listed)}/value"] = f"{source}.value"
            listed.append(pair)
        elif reading.values["identifier"] or identifier.get("use") == "old" or not fits(own_number, value):
            continue
        else:
            reading.sources["/identifier"] = f"{source}.value"
            reading.values["identifier"] = value
        reading.use("identifier", place)
    reading.sources["/identifiers"] = "Patient.identifier"
    return reading


def system_of(identifier: Elements) -> tuple[str, str]:
    """Who gave an identifier, and the element that says so: its `system`, or in words its `type.text`."""
    if "system" in identifier:
        return as_line(identifier["system"]), "system"
    return as_line(identifier.get("type", {}).get("text")), "type.text"


def is_storable_pair(pair: dict[str, str]) -> bool:
    return "|" not in pair["system"] and all(fits(VISIBLE_LINE, text) for text in pair.values())


def write_identifiers(state: PatientState) -> Elements:
    found: list[Elements] = []
    if state.row.identifier:
        found.append({"use": "usual", "value": state.row.identifier})
    for pair in state.row.identifiers:
        is_uri = ABSOLUTE_URI.fullmatch(pair["system"])  # as Identifier.system has to be (datatypes.html#Identifier)
        system = {"system": pair["system"]} if is_uri else {"type": {"text": pair["system"]}}
        found.append(system | {"value": pair["value"]})
    return {"identifier": found} if found else {}


def write_phones(state: PatientState) -> Elements:
    return write_telecom([state.row.phone, state.row.alternate_phone], state.row.email)


def read_address(elements: Elements) -> Reading:
    """The first address that is not old: its text, or its parts in one line."""
    reading = Reading({"address": ""})
    for place, address in enumerate(elements.get("address", [])):
        text = visible_text_of(address.get("text"))
        parts = [address.get(name) for name in ("line", "city", "district", "state", "postalCode", "country")]
        found = text or joined(", ", *parts)
        if found and address.get("use") != "old":
            reading.use("address", place)
            reading.values["address"] = found
            reading.sources["/address"] = f"Patient.address[{place}]" + (".text" if text else "")
            break
    return reading


def visible_text_of(text: str | None) -> str:
    """The text with its line breaks, if anything of it can be seen."""
    return text if text and as_line(text) else ""


def write_address(state: PatientState) -> Elements:
    return {"address": [{"text": state.row.address}]} if state.row.address else {}


def read_contacts(elements: Elements) -> Reading:
    """Those with a name. What does not fit into a member of a contact is left out of it."""
    reading = Reading({"contacts": []}, {"/contacts": "Patient.contact"})
    contacts = reading.values["contacts"]
    for place, contact in enumerate(elements.get("contact", [])):
        name, member = name_of(contact.get("name", {}))
        if not fits(VISIBLE_LINE, name) or len(contacts) == MOST_CONTACTS:
            continue
        source, pointer = f"Patient.contact[{place}]", f"/contacts/{len(contacts)}"
        relationship = next(iter(relationships_of(contact)), "")
        phones = phones_of(contact.get("telecom", []), Patient._meta.get_field("phone"))
        contacts.append({"name": name, "relationship": relationship, "phone": as_line(phones[0][1]) if phones else ""})
        reading.sources |= {
            pointer: source,
            f"{pointer}/name": f"{source}.name{member}",
            f"{pointer}/relationship": f"{source}.relationship",
        }
        if phones:
            reading.sources[f"{pointer}/phone"] = f"{source}.telecom[{phones[0][0]}].value"
        reading.use("contact", place)
    return reading


def relationships_of(contact: Elements) -> Iterator[str]:
    """The words for the relationship, the best first."""
    for concept in contact.get("relationship", [])[:1]:
        for text in (concept.get("text"), *(coding.get("display") for coding in concept.get("coding", []))):
            if fits(RELATIONSHIP, line := as_line(text)):
                yield line


def write_contacts(state: PatientState) -> Elements:
    found = []
    for contact in state.row.contacts:
        entry: Elements = {"relationship": [{"text": contact["relationship"]}]} if contact["relationship"] else {}
        entry["name"] = {"text": contact["name"]}
        if contact["phone"]:
            entry["telecom"] = [{"system": "phone", "value": contact["phone"]}]
        found.append(entry)
    return {"contact": found} if found else {}


def read_language(elements: Elements) -> Reading:
    """The tag of the preferred language, else of the first one that has a tag."""
    reading = Reading({"language": ""})
    tagged = list(languages_of(elements.get("communication", [])))
    for place, number, tag, _ in sorted(tagged, key=lambda found: not found[3])[:1]:
        reading.use("communication", place)
        reading.values["language"] = tag
        reading.sources["/language"] = f"Patient.communication[{place}].language.coding[{number}].code"
    return reading


def languages_of(communication: list[Elements]) -> Iterator[tuple[int, int, str, bool]]:
    field = Patient._meta.get_field("language")
    for place, entry in enumerate(communication):
        for number, coding in enumerate(entry.get("language", {}).get("coding", [])):
            tag = coding.get("code", "")
            if tag and coding.get("system", LANGUAGE_TAGS) == LANGUAGE_TAGS and fits(field, tag):
                yield place, number, tag, entry.get("preferred", False)
                break


def write_language(state: PatientState) -> Elements:
    if not state.row.language:
        return {}
    concept = {"coding": [{"system": LANGUAGE_TAGS, "code": state.row.language}]}
    return {"communication": [{"language": concept, "preferred": True}]}


def write_active(state: PatientState) -> Elements:
    return {"active": state.row.merged_into_id is None}


def read_practitioners(elements: Elements) -> Reading:
    """Entries that refer to practitioners here are derived from assignments."""
    reading = Reading()
    for place, reference in enumerate(elements.get("generalPractitioner", [])):
        if reference.get("reference", "").startswith("Practitioner/"):
            reading.use("generalPractitioner", place)
    return reading


def write_practitioners(state: PatientState) -> Elements:
    if state.practitioner is None:
        return {}
    key, name = state.practitioner
    return {"generalPractitioner": [{"reference": f"Practitioner/{key}", "display": name}]}


PATIENT_COLUMNS = (
    "name", "gender", "birth_date", "birth_year", "deceased", "deceased_on", "identifier", "identifiers", "phone",
    "alternate_phone", "email", "address", "contacts", "language", "merged_into_id",
)  # fmt: skip
PATIENT_MAPPING = ResourceMapping(
    "Patient",
    groups=[
        ElementGroup("text", ("text",), values_of_state(*PATIENT_COLUMNS), read_text, lambda _: {}),
        ElementGroup(
            "identifier", ("identifier",), values_of_state("identifier", "identifiers"),
            read_identifiers, write_identifiers,
        ),  # fmt: skip
        ElementGroup("active", ("active",), values_of_state("merged_into_id"), read_active, write_active),
        ElementGroup("name", ("name",), values_of_state("name"), partial(read_name, expression="Patient"), write_name),
        ElementGroup(
            "telecom",
            ("telecom",),
            values_of_state("phone", "alternate_phone", "email"),
            partial(read_telecom, expression="Patient", model=Patient, phones=("phone", "alternate_phone")),
            write_phones,
        ),
        ElementGroup("gender", ("gender",), values_of_state("gender"), read_gender, write_gender),
        ElementGroup("birth", ("birthDate",), values_of_state("birth_date", "birth_year"), read_birth, write_birth),
        ElementGroup(
            "death",
            ("deceasedBoolean", "deceasedDateTime"),
            values_of_state("deceased", "deceased_on"),
            read_death,
            write_death,
        ),
        ElementGroup("address", ("address",), values_of_state("address"), read_address, write_address),
        ElementGroup("contact", ("contact",), values_of_state("contacts"), read_contacts, write_contacts),
        ElementGroup("communication", ("communication",), values_of_state("language"), read_language, write_language),
        ElementGroup(
            "generalPractitioner",
            ("generalPractitioner",),
            lambda state: state.practitioner,
            read_practitioners,
            write_practitioners,
        ),
    ],
    order=[
        *RESOURCE_ORDER, "identifier", "active", "name", "telecom", "gender", "birthDate", "deceasedBoolean",
        "deceasedDateTime", "address", "maritalStatus", "multipleBirthBoolean", "multipleBirthInteger", "photo",
        "contact", "communication", "generalPractitioner", "managingOrganization", "link",
    ],
)  # fmt: skip


def read_patient(resource: Mapping[str, Any]) -> Incoming:
    """The values of a valid Patient for `PatientSerializer`. Raises Invalid for one without a name."""
    incoming = PATIENT_MAPPING.read(resource)
    if not incoming.values["name"]:
        raise Invalid(Issue("required", "Send a name with a text, or with a given or a family name.", "Patient.name"))
    return incoming


def keep_patient(resource: Mapping[str, Any], row: Any, practitioner: tuple[int, str] | None = None) -> str:
    """The text for the column `fhir` of a row that has the values of this resource, with the doctor of its primary
    assignment. Raises Invalid if it is too long."""
    return PATIENT_MAPPING.keep(resource, PatientState(row, practitioner))


def write_patient(
    row: Any, *, practitioner: tuple[int, str] | None = None, survivor: int | None = None
) -> dict[str, Any]:
    """The Patient of a row or of an event. `practitioner` is the doctor of the primary assignment, and `survivor` the
    record that this one was merged into."""
    elements = PATIENT_MAPPING.write(PatientState(row, practitioner, survivor), row.fhir)
    if survivor is not None:
        link = {"other": {"reference": f"Patient/{survivor}"}, "type": "replaced-by"}
        elements["link"] = [*elements.get("link", []), link]
    meta = {"versionId": str(row.version), "lastUpdated": instant(row.updated_at)}
    return PATIENT_MAPPING.resource(elements, row.id, meta)
