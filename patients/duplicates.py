"""Likely twins: the same person entered twice, told by what two records agree on.

A record is a likely twin when the identifiers agree; when the names are alike and so is the birth, the phone or the
e-mail; or when the names are equal and one of the births is not known. Two dates of birth that differ make two people,
unless the names are equal and the phone or the e-mail agrees.
"""

import unicodedata
from dataclasses import dataclass

from django.db import connection
from django.db.models import Q, QuerySet

from healthcare.search.hits import Hits
from healthcare.search.statements import Page
from patients.models import PATIENT_SEARCH, Patient

MOST = 20  # twins that are told of, and records that are compared for each field
# What it says when a field agrees; of the name the less, the less it is alike (the rank of the search).
WEIGHTS = {"identifier": 8, "birth_date": 4, "phone": 4, "email": 4, "birth_year": 2, "gender": 1, "address": 1}
NAME_WEIGHTS = (6, 4, 3)
EQUAL = 0


@dataclass(frozen=True)
class Twin:
    patient: Patient
    agrees_on: list[str]
    weight: int


def likely_twins(patient: Patient) -> list[Twin]:
    """The caller's other active patients who are likely the same person as this one, the likeliest first. The one that
    is asked about need not be saved."""
    others = Patient.objects.filter(created_by_id=patient.created_by_id).active().exclude(pk=patient.pk)
    phones = found(patient, others, patient.phone) if patient.phone else {}
    numbers = [found(patient, others, text) for text in (patient.email, patient.identifier) if text]
    same_number = {key for keys in (phones, *numbers) for key in keys}
    names = found(patient, others.filter(born_alike(patient) | Q(pk__in=same_number)), *names_of(patient))
    records = others.in_bulk({*same_number, *names})
    twins = [compare(patient, other, names.get(key), phone=key in phones) for key, other in records.items()]
    likely = [twin for twin in twins if twin is not None]
    return sorted(likely, key=lambda twin: (-twin.weight, -twin.patient.pk))[:MOST]


def lock(owner_id: int) -> None:
    """Let nobody else look for twins among this owner's patients until the transaction ends: of two who enter the same
    person at once, the second sees the first."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('patients.duplicates', %s))", [owner_id])


def found(patient: Patient, others: QuerySet, *texts: str) -> dict[int, int]:
    """The ranks, by id, of those that a search for any of these texts finds."""
    ranks: dict[int, int] = {}
    for text in texts:
        hits = Hits(others, PATIENT_SEARCH, text, owner=patient.created_by_id, hidden=False)
        for key, rank in hits.look_up(Page(None, MOST)).items():
            ranks[key] = min(rank, ranks.get(key, rank))
    return ranks


def names_of(patient: Patient) -> list[str]:
    """The name, and of a longer one its two ends: a middle name is often left out."""
    words = patient.name.split()
    return [patient.name] if len(words) < 3 else [patient.name, f"{words[0]} {words[-1]}"]


def born_alike(patient: Patient) -> Q:
    if patient.birth_year is None:
        return Q()
    unknown = Q(birth_year=None)
    if patient.birth_date is None:
        return Q(birth_year=patient.birth_year) | unknown
    return Q(birth_date=patient.birth_date) | Q(birth_date=None, birth_year=patient.birth_year) | unknown


def compare(patient: Patient, other: Patient, rank: int | None, *, phone: bool) -> Twin | None:
    """The other one as a twin, None when it is not likely one. `rank` says how much the names are alike."""
    agrees = [field for field in WEIGHTS if field != "phone" and agree(patient, other, field)]
    agrees += ["phone"] if phone else []
    alike = rank is not None and as_long(patient.name, other.name)
    births = {"birth_date", "birth_year"} & {*agrees}
    apart = bool(patient.birth_year and other.birth_year) and not births
    reached = not {"phone", "email"}.isdisjoint(agrees)
    by_name = alike and (births or (reached and not apart) or (rank == EQUAL and (reached or not apart)))
    if not by_name and "identifier" not in agrees:
        return None
    weight = sum(WEIGHTS[field] for field in agrees) + (NAME_WEIGHTS[rank] if alike and rank is not None else 0)
    return Twin(other, ["name", *agrees] if alike else agrees, weight)


def agree(patient: Patient, other: Patient, field: str) -> bool:
    mine, theirs = getattr(patient, field), getattr(other, field)
    if field == "birth_year" and patient.birth_date and other.birth_date:
        return False  # the dates say more
    if field == "gender":
        return bool(mine == theirs != "U")
    if isinstance(mine, str):
        mine, theirs = letters_and_digits(mine), letters_and_digits(theirs)
    return bool(mine) and mine == theirs


def letters_and_digits(text: str) -> str:
    return "".join(character for character in unicodedata.normalize("NFKC", text).casefold() if character.isalnum())


def as_long(name: str, other: str) -> bool:
    """Whether neither is a mere part of the other: the shorter has more than two thirds of the longer one's letters."""
    shorter, longer = sorted(sum(unicodedata.category(letter)[0] == "L" for letter in text) for text in (name, other))
    return 3 * shorter > 2 * longer
