"""A patient's identifiers: the owner's own number, and pairs of a system and a value.

The own number is `identifier`, a text. The pairs are `identifiers` (FHIR R4 Identifier), the numbers that others gave.
A merge turns the own number of the duplicate into a pair of the system OLD, so that the old card still finds the
patient. Wherever numbers are compared, old ones count as own ones.
"""

import re
import unicodedata
from typing import Any

from django.apps import apps
from django.contrib.postgres.expressions import ArraySubquery
from django.db import connection
from django.db.models import BooleanField, F, Func, Q, QuerySet, TextField, Value
from django.db.models.functions import Concat

from patients.models import Patient

OLD = "old"
NEITHER = re.compile("[^0-9a-z]+")  # of ASCII in lower case
LONGEST_PAIR = 200 + 1 + 200  # characters of `system|value`
Pair = dict[str, str]

# The owner's other patients who have one of these numbers in the same system, found by the terms of search. Another
# system may have given the same value to very many patients.
WITH_SAME_NUMBER = """
SELECT DISTINCT patient.id FROM patients_patientterm found JOIN patients_patient patient ON patient.id = found.record
WHERE found.owner = %(owner)s AND NOT found.hidden
AND found.term IN (SELECT 'id:' || search_key(value) FROM unnest(%(values)s::text[]) value)
AND patient.deleted_at IS NULL AND patient.id IS DISTINCT FROM %(patient)s AND EXISTS (
    SELECT FROM unnest(%(systems)s::text[], %(values)s::text[]) wanted(system, value), LATERAL (
        SELECT '', patient.identifier UNION ALL
        SELECT CASE WHEN system <> %(old)s THEN system ELSE '' END, value
        FROM jsonb_to_recordset(patient.identifiers) pair(system text, value text)
    ) had(system, value)
    WHERE had.system = wanted.system AND search_key(had.value) = search_key(wanted.value)
)
ORDER BY patient.id DESC LIMIT %(maximum)s
"""


def pairs_to_add(survivor: Patient, duplicate: Patient, number: str | None = None) -> list[Pair]:
    """What a merge adds to the survivor's pairs: the duplicate's, and the own number that is given up as an old one.

    number: the survivor's own number after the merge; by default the one that it has, or else the duplicate's.
    """
    if number is None:
        number = survivor.identifier or duplicate.identifier
    given_up = [own for own in (survivor.identifier, duplicate.identifier) if own not in {"", number}]
    old = [{"system": OLD, "value": own} for own in given_up]
    return [pair for pair in [*duplicate.identifiers, *old] if pair not in survivor.identifiers]


def numbers_of(patient: Patient) -> set[tuple[str, str]]:
    """Each number with its system, the empty text for own and old ones. Case, spaces and punctuation do not count."""
    pairs = [("", patient.identifier)]
    pairs += [("" if pair["system"] == OLD else pair["system"], pair["value"]) for pair in patient.identifiers]
    return {(system, key) for system, value in pairs if (key := letters_and_digits(value))}


def letters_and_digits(text: str) -> str:
    if text.isascii():  # which normalization leaves as it is
        return NEITHER.sub("", text.lower())
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


def patients_with_same_number(patient: Patient, maximum: int) -> list[int]:
    """The ids of the owner's other active patients that share a number with this one, the newest first."""
    numbers = sorted(numbers_of(patient))
    if not numbers:
        return []
    values: dict[str, Any] = {
        "owner": patient.created_by_id, "patient": patient.pk, "old": OLD, "maximum": maximum,
        "systems": [system for system, _ in numbers], "values": [value for _, value in numbers],
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(WITH_SAME_NUMBER, values)
        return [row[0] for row in cursor.fetchall()]


def with_identifier(patients: QuerySet, text: str) -> QuerySet:
    """The patients with this own number or value, or with this value in this system where the text is `system|value`.

    An own number that contains a bar is found by the whole text.
    """
    system, bar, value = text.partition("|")
    pair = {"system": system, "value": value} if bar else {"value": text}
    rows = patients.filter(Q(identifier=text) | Q(identifiers__contains=[pair]))
    # A text without any ASCII letter or digit may have no term.
    values = {text, value} if bar else {text}
    indexed = patients.model is Patient and all(any(one.isascii() and one.isalnum() for one in v) for v in values)
    return rows.filter(has_term(values)) if indexed else rows


def has_term(values: set[str]) -> Func:
    """That the terms of search hold one of these numbers. Their index finds the patients, without a scan."""
    terms = [Concat(Value("id:"), Func(Value(one), function="search_key", output_field=TextField())) for one in values]
    found = apps.get_model("patients", "PatientTerm").objects.filter(hidden__in=[True, False], term__in=terms)
    return Func(
        F("pk"),
        ArraySubquery(found.values("record")),
        template="(%(expressions)s))",
        arg_joiner=" = ANY(",
        output_field=BooleanField(),
    )
