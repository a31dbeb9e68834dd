"""Likely twins: the same person entered twice, found by what two records agree on.

A record is a likely twin when the identifiers agree; or when the names are alike, word by word, and so is the birth,
the phone or the e-mail; or when the names are equal and one of the births is not known. Two different dates of birth
make two people, unless besides an equal name the phone or the e-mail agrees.
"""

from dataclasses import dataclass

from patients.models import Patient

MOST = 20
# What a field says for itself when it agrees. A name counts less the less it is alike, by the rank of the search.
WEIGHTS = {"identifier": 8, "phone": 4, "email": 4, "birth_date": 4, "birth_year": 2, "address": 1, "gender": 1}
NAME_WEIGHTS = (6, 4, 3)
EQUAL = 0


@dataclass(frozen=True)
class Twin:
    patient: Patient
    agrees_on: list[str]
    weight: int


def likely_twins(patient: Patient) -> list[Twin]:
    """The owner's other active patients who are likely the same person, the likeliest first."""
    others = Patient.objects.filter(created_by_id=patient.created_by_id).active().exclude(pk=patient.pk)
    names, numbers = alike(patient, others), agreeing(patient, others)
    found = others.in_bulk([*names, *numbers])
    twins = [compare(patient, other, names.get(key)) for key, other in found.items()]
    likely = [twin for twin in twins if twin is not None]
    return sorted(likely, key=lambda twin: (-twin.weight, -twin.patient.pk))[:MOST]
