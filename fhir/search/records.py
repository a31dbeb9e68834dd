"""The search parameters of Patient and Practitioner."""

from django.db.models import Exists, OuterRef, Q, TextField, Value
from django.db.models.functions import Coalesce
from django.db.models.lookups import Exact

from fhir.search.parameters import (
    BirthParameter,
    CodeParameter,
    ContactParameter,
    IdentifierParameter,
    IdParameter,
    InstantParameter,
    NameParameter,
    ReferenceParameter,
    SearchParameter,
    TextParameter,
)
from fhir.search.sql import kept_element
from fhir.search.terms import TermIndex
from mappings.models import Mapping as Assignment
from patients.models import Gender

PATIENTS = TermIndex("patients.Patient", owned=True)
DOCTORS = TermIndex("doctors.Doctor", owned=False)
ONE_NAME = "A record holds one name; every word of it counts."
GENDER_SYSTEM = "http://hl7.org/fhir/administrative-gender"


def kept_as(element: str, value: str) -> Q:
    """That an element is kept beside the row with this value."""
    text = Value(value, output_field=TextField())
    return Q(Exact(Coalesce(kept_element(element), Value("", output_field=TextField())), text))


def assigned_primarily(doctor: int | None = None) -> Q:
    """The patients whose primary doctor at present is this one, or any."""
    primary = Assignment.objects.active().filter(patient=OuterRef("pk"), is_primary=True)
    return Q(Exists(primary.filter(doctor=doctor) if doctor else primary))


INACTIVE = kept_as("active", "false")
GENDER_SENT_AS_UNKNOWN = Q(gender=Gender.UNKNOWN) & kept_as("gender", "unknown")

PATIENT_PARAMETERS: dict[str, SearchParameter] = {
    "_id": IdParameter(),
    "_lastUpdated": InstantParameter(column="updated_at"),
    "active": CodeParameter(
        rows={"true": Q(merged_into=None) & ~INACTIVE, "false": Q(merged_into__isnull=False) | INACTIVE},
        documentation="With `false` records that were merged into another one are found too.",
    ),
    "address": TextParameter(column="address", absent=Q(address="")),
    "birthdate": BirthParameter(absent=Q(birth_year=None)),
    "deceased": CodeParameter(
        rows={"true": Q(deceased=True), "false": ~Q(deceased=True)},
        absent=Q(deceased=None),
        documentation="`false` finds those of whom nothing is known too.",
    ),
    "email": ContactParameter(email="email", index=PATIENTS, absent=Q(email="")),
    "family": NameParameter(column="name", index=PATIENTS, documentation=ONE_NAME),
    "gender": CodeParameter(
        rows={
            **{label: Q(gender=code) for code, label in Gender.choices if code != Gender.UNKNOWN},
            "unknown": GENDER_SENT_AS_UNKNOWN,
        },
        system=GENDER_SYSTEM,
        absent=Q(gender=Gender.UNKNOWN) & ~GENDER_SENT_AS_UNKNOWN,
    ),
    "general-practitioner": ReferenceParameter(
        rows={"Practitioner": assigned_primarily},
        other_types={"Organization", "PractitionerRole"},
        absent=~assigned_primarily(),
        documentation="The primary doctor of the patient.",
    ),
    "given": NameParameter(column="name", index=PATIENTS, documentation=ONE_NAME),
    "identifier": IdentifierParameter(
        own="identifier", pairs="identifiers", index=PATIENTS, absent=Q(identifier="", identifiers=[])
    ),
    "name": NameParameter(column="name", index=PATIENTS),
    "phone": ContactParameter(
        phones=["phone", "alternate_phone"], index=PATIENTS, absent=Q(phone="", alternate_phone="")
    ),
    "telecom": ContactParameter(
        phones=["phone", "alternate_phone"],
        email="email",
        index=PATIENTS,
        absent=Q(phone="", alternate_phone="", email=""),
    ),
}
PRACTITIONER_PARAMETERS: dict[str, SearchParameter] = {
    "_id": IdParameter(),
    "_lastUpdated": InstantParameter(column="updated_at"),
    "active": CodeParameter(rows={"true": ~INACTIVE, "false": INACTIVE}),
    "email": ContactParameter(email="email", index=DOCTORS, absent=Q(email="")),
    "family": NameParameter(column="name", index=DOCTORS, documentation=ONE_NAME),
    "given": NameParameter(column="name", index=DOCTORS, documentation=ONE_NAME),
    "identifier": IdentifierParameter(own="license_number", pairs="fhir", absent=Q(license_number="")),
    "name": NameParameter(column="name", index=DOCTORS),
    "phone": ContactParameter(phones=["phone"], index=DOCTORS, absent=Q(phone="")),
    "telecom": ContactParameter(phones=["phone"], email="email", index=DOCTORS, absent=Q(phone="", email="")),
}
SORT_COLUMNS = {"_id": "id", "_lastUpdated": "updated_at", "name": "name"}
