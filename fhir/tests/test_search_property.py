"""Searches find what a plain implementation of R4's rules finds among random patients."""

import datetime
import unicodedata
from typing import Any

from django.db import transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts.models import User
from conftest import LoggedInClient
from fhir.tests.mapped import SEVERAL
from fhir.tests.test_search import ids, search
from patients.models import Patient
from patients.tests.factories import make_patient

WORDS = ["Ana", "ANÁ", "Anand", "Bea", "beatrix", "Chi", "Éa"]
YEARS = st.integers(1990, 1992)
DAYS = st.dates(datetime.date(1990, 1, 1), datetime.date(1992, 12, 31))
PAIRS = st.fixed_dictionaries({"system": st.sampled_from(["urn:a", "urn:b", "old"]), "value": st.sampled_from("1aA2")})
PATIENTS = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join),
            "birth": DAYS | YEARS | st.none(),
            "identifier": st.sampled_from(["", "1", "a", "B"]),
            "identifiers": st.lists(PAIRS, max_size=2, unique_by=lambda pair: (pair["system"], pair["value"])),
        }
    ),
    min_size=1,
    max_size=6,
)
PREFIXES = st.sampled_from(["", "eq", "ne", "gt", "lt", "ge", "le"])
DATES = DAYS.map(str) | DAYS.map(lambda day: str(day)[:7]) | YEARS.map(str)
NAMES = st.tuples(st.sampled_from(["", ":contains", ":exact"]), st.sampled_from([*WORDS, "an", "e", "ea", "Ana Bea"]))
IDENTIFIERS = st.tuples(st.sampled_from([None, "", "urn:a", "urn:b"]), st.sampled_from("1aAbB2"))


def folded(text: str) -> str:
    return "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one)).lower()


def has_name(name: str, modifier: str, wanted: str) -> bool:
    if modifier == ":exact":
        return wanted == name or wanted in name.split()
    words = folded(name).split()
    return all(
        any(part in word if modifier else word.startswith(part) for word in words) for part in folded(wanted).split()
    )


def days_of(text: str) -> tuple[str, str]:
    """The first and the last day of a date. As texts they compare like days; no month has a day after the 31st."""
    return f"{text}-01-01"[:10] if len(text) == 4 else f"{text}-01"[:10], f"{text}-12-31"[:10] if len(
        text
    ) == 4 else f"{text}-31"[:10]


def has_birth(birth: Any, prefix: str, text: str) -> bool:
    if birth is None:
        return False
    (first, last), (wanted_first, wanted_last) = days_of(str(birth)), days_of(text)
    within = wanted_first <= first and last <= wanted_last
    return {
        "": within, "eq": within, "ne": not within, "gt": last > wanted_last, "lt": first < wanted_first,
        "ge": within or last > wanted_last, "le": within or first < wanted_first,
    }[prefix]  # fmt: skip


def has_identifier(row: Any, system: str | None, value: str) -> bool:
    pairs = [("", row["identifier"]), *((pair["system"], pair["value"]) for pair in row["identifiers"])]
    known = [("" if own == "old" else own, text.lower()) for own, text in pairs]
    return any(text == value.lower() and system in {None, own} for own, text in known)


def make(alice: User, row: Any) -> Patient:
    birth = row["birth"]
    fields = {"birth_date": birth} if isinstance(birth, datetime.date) else {"birth_year": birth}
    return make_patient(alice, name=row["name"], identifier=row["identifier"], identifiers=row["identifiers"], **fields)


@settings(SEVERAL, max_examples=40)
@given(rows=PATIENTS, names=NAMES, prefix=PREFIXES, birth=DATES, identifier=IDENTIFIERS)
def check_searches(
    alice: User, client: LoggedInClient, rows: Any, names: Any, prefix: str, birth: str, identifier: Any
) -> None:
    with transaction.atomic():
        made = [(make(alice, row).pk, row) for row in rows][::-1]
        modifier, name = names
        system, value = identifier
        token = value if system is None else f"{system}|{value}"
        for query, matches in (
            ({f"name{modifier}": name}, lambda row: has_name(row["name"], modifier, name)),
            ({"birthdate": f"{prefix}{birth}"}, lambda row: has_birth(row["birth"], prefix, birth)),
            ({"identifier": token}, lambda row: has_identifier(row, system, value)),
        ):
            assert ids(search(client, query)) == [key for key, row in made if matches(row)], query
        transaction.set_rollback(True)


def test_searches_find_what_the_rules_say(alice: User, as_alice: LoggedInClient) -> None:
    check_searches(alice, as_alice)
