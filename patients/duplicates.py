"""Likely duplicates: other records of the same person, found by the fields on which two records agree.

Another record is a likely duplicate if the two share a number of the same system (see `identifiers`), or if the names
are similar and

- the births agree, or
- the phones or the e-mails agree and the births do not contradict each other, or
- the names are equal, and the births do not contradict each other or the phones or the e-mails agree.

Births contradict each other when both are known and neither the dates nor the years agree.
"""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from django.db import connection
from django.db.models import Q, QuerySet

from healthcare.search.hits import Hits
from healthcare.search.statements import PageOfHits
from patients.identifiers import letters_and_digits, numbers_of, patients_with_same_number
from patients.models import PATIENT_SEARCH, Gender, Patient

MAXIMUM = 20  # duplicates in an answer, and candidates for each searched text
# The weight of each field that agrees. A name weighs by its search rank: equal, equal at the beginning, similar.
WEIGHTS = {
    "identifier": 8, "identifiers": 8, "birth_date": 4, "phone": 4, "email": 4, "birth_year": 2, "gender": 1,
    "address": 1,
}  # fmt: skip
COMPARED = [field for field in WEIGHTS if field not in {"identifier", "identifiers", "phone"}]
BIRTH = {"birth_date", "birth_year"}
NAME_WEIGHTS = (6, 4, 3)
EQUAL_NAMES = 0  # the search rank


@dataclass(frozen=True)
class LikelyDuplicate:
    patient: Patient
    agrees_on: list[str]
    weight: int


def find_likely_duplicates(patient: Patient, maximum: int | None = MAXIMUM) -> list[LikelyDuplicate]:
    """The owner's other active patients who are likely the same person, the likeliest first; without a `maximum` all
    that were compared.

    The patient need not be saved, or have a name.
    """
    others = Patient.objects.filter(created_by_id=patient.created_by_id).active().exclude(pk=patient.pk)
    by_phone = search_ranks(patient, others, [text for text in (patient.phone, patient.alternate_phone) if text])
    by_email = search_ranks(patient, others, [patient.email] if patient.email else [])
    same_contact = {*by_phone, *by_email, *patients_with_same_number(patient, MAXIMUM)}
    possible = others.filter(compatible_birth(patient) | Q(pk__in=same_contact))
    by_name = search_ranks(patient, possible, searched_names(patient) if patient.name else [])
    candidates = others.in_bulk({*same_contact, *by_name})
    compared = [
        compare(patient, other, by_name.get(key), same_phone=key in by_phone) for key, other in candidates.items()
    ]
    duplicates = [duplicate for duplicate in compared if duplicate is not None]
    return sorted(duplicates, key=lambda duplicate: (-duplicate.weight, -duplicate.patient.pk))[:maximum]


def lock_against_duplicates(owner_id: int) -> None:
    """Take an advisory lock on this owner's patients until the transaction ends.

    Of two requests that add the same person at once, the second one then sees the first one's record.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('patients.duplicates', %s))", [owner_id])


def search_ranks(patient: Patient, others: QuerySet, texts: Iterable[str]) -> dict[int, int]:
    """The best search rank of each of the other patients, by id, that a search for any of these texts finds."""
    ranks: dict[int, int] = {}
    for text in texts:
        hits = Hits(others, PATIENT_SEARCH, text, owner=patient.created_by_id, hidden=False)
        for key, rank in hits.look_up(PageOfHits(None, MAXIMUM)).items():
            ranks[key] = min(rank, ranks.get(key, rank))
    return ranks


def searched_names(patient: Patient) -> list[str]:
    """The name, and of one with three words or more its first and last word too: a middle name is often left out."""
    words = patient.name.split()
    return [patient.name] if len(words) < 3 else [patient.name, f"{words[0]} {words[-1]}"]


def compatible_birth(patient: Patient) -> Q:
    """Patients whose birth agrees with this patient's, or one of the two is unknown."""
    if patient.birth_year is None:
        return ~Q(pk__in=())  # everybody; an empty Q() would vanish from a disjunction
    unknown = Q(birth_year=None)
    if patient.birth_date is None:
        return Q(birth_year=patient.birth_year) | unknown
    return Q(birth_date=patient.birth_date) | Q(birth_date=None, birth_year=patient.birth_year) | unknown


def compare(
    patient: Patient, other: Patient, name_rank: int | None, *, same_phone: bool, numbers_count: bool = True
) -> LikelyDuplicate | None:
    """The other patient as a likely duplicate, or None. `name_rank` is None where a search by name did not find it.

    numbers_count: whether an equal number alone suffices.
    """
    same_numbers = numbers_of(patient) & numbers_of(other)
    agrees_on = ["identifier"] if any(not system for system, _ in same_numbers) else []
    agrees_on += ["identifiers"] if any(system for system, _ in same_numbers) else []
    agrees_on += [field for field in COMPARED if values_agree(patient, other, field)]
    agrees_on += ["phone"] if same_phone else []
    names_similar = name_rank is not None and similar_length(patient.name, other.name)
    births_agree = not BIRTH.isdisjoint(agrees_on)
    births_contradict = bool(patient.birth_year and other.birth_year) and not births_agree
    contact_agrees = not {"phone", "email"}.isdisjoint(agrees_on)
    same_person = names_similar and (
        births_agree
        or (contact_agrees and not births_contradict)
        or (name_rank == EQUAL_NAMES and (contact_agrees or not births_contradict))
    )
    if not same_person and not (same_numbers and numbers_count):
        return None
    weight = sum(WEIGHTS[field] for field in agrees_on)
    if names_similar and name_rank is not None:
        return LikelyDuplicate(other, ["name", *agrees_on], weight + NAME_WEIGHTS[name_rank])
    return LikelyDuplicate(other, agrees_on, weight)


def values_agree(patient: Patient, other: Patient, field: str) -> bool:
    """Whether both have the same value, other than none. Case, spaces and punctuation of a text do not count."""
    value, other_value = getattr(patient, field), getattr(other, field)
    if field == "birth_year" and patient.birth_date and other.birth_date:
        return False  # the dates decide
    if field == "gender":
        return bool(value == other_value != Gender.UNKNOWN)
    if isinstance(value, str):
        value, other_value = letters_and_digits(value), letters_and_digits(other_value)
    return bool(value) and value == other_value


def similar_length(name: str, other: str) -> bool:
    """Whether the shorter name has more than two thirds of the letters of the longer one, so that neither is merely a
    part of the other."""
    shorter, longer = sorted(sum(unicodedata.category(letter)[0] == "L" for letter in text) for text in (name, other))
    return 3 * shorter > 2 * longer
