"""A merge in which staff choose whose value each field gets, and what undoing it brings back."""

import datetime
from typing import Any

import pytest
from django.core.management import call_command
from django.db import transaction
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from accounts.models import User
from patients.merges import choosable_fields, merge, unmerge
from patients.models import Patient, PatientEvent, PatientMerge
from patients.tests.factories import make_patient
from patients.tests.test_erasure import CANARY, tables_that_say
from patients.tests.test_merge_property import PATIENTS, SEVERAL

STAMPS = {"version", "updated_at"}
NAMED = st.builds(lambda name, fields: fields | {"name": name}, st.sampled_from(["Ana", "Anna", "Anne"]), PATIENTS)


def values_of(*patients: Patient) -> list[dict[str, Any]]:
    rows = {row["id"]: row for row in Patient.objects.filter(pk__in=[one.pk for one in patients]).values()}
    return [{name: value for name, value in rows[one.pk].items() if name not in STAMPS} for one in patients]


def again(patient: Patient) -> Any:
    return Patient.objects.get(pk=patient.pk)


def consistent(survivor: Patient, duplicate: Patient, chosen: set[str]) -> bool:
    """Whether the page would accept this choice: what a birth and a death may be is tested with it."""
    one = Patient(**{name: getattr(duplicate if name in chosen else survivor, name) for name in choosable_fields()})
    return (
        (not one.birth_date or one.birth_year == one.birth_date.year)
        and (not one.deceased_on or bool(one.deceased))
        and not (one.deceased_on and one.birth_year and one.deceased_on.year < one.birth_year)
        and not (one.deceased_on and one.birth_date and one.deceased_on < one.birth_date)
    )


@pytest.mark.django_db
def test_undoing_brings_back_both_records_in_any_order(alice: User) -> None:
    choices = st.sets(st.sampled_from(["name", "gender", "phone", "identifier", "birth_date", "birth_year", "address"]))

    @hypothesis_settings(SEVERAL, max_examples=40)
    @given(st.tuples(NAMED, NAMED, NAMED), st.tuples(choices, choices), st.booleans())
    def check(fields: Any, chosen: Any, last_first: bool) -> None:
        with transaction.atomic():
            survivor, *duplicates = (make_patient(alice, **one) for one in fields)
            before = values_of(survivor, *duplicates)
            for duplicate, names in zip(duplicates, chosen, strict=True):
                now = again(survivor)
                names = names if consistent(now, again(duplicate), names) else names - {"birth_date", "birth_year"}
                merge(now, again(duplicate), names)
                assert all(getattr(again(survivor), name) == getattr(duplicate, name) for name in names)
            for duplicate in duplicates[::-1] if last_first else duplicates:
                unmerge(again(survivor), again(duplicate))
            assert values_of(survivor, *duplicates) == before
            assert {(one.replaced == {}, one.filled == {}) for one in PatientMerge.objects.all()} == {(True, True)}
            transaction.set_rollback(True)

    check()


def test_the_own_number_that_is_given_up_stays_as_an_old_one(alice: User) -> None:
    survivor, duplicate = make_patient(alice, identifier="A-1"), make_patient(alice, identifier="B-2")
    merged = merge(survivor, duplicate, {"identifier"})
    assert (merged.identifier, merged.identifiers) == ("B-2", [{"system": "old", "value": "A-1"}])
    unmerged = unmerge(merged, again(duplicate))
    assert (unmerged.identifier, unmerged.identifiers) == ("A-1", [])


def test_what_was_changed_since_stays_and_the_rest_is_brought_back(alice: User) -> None:
    survivor = make_patient(alice, name="Ana", phone="1", address="Mysuru")
    duplicate = make_patient(alice, name="Anna", phone="2", address="Bengaluru")
    merge(survivor, duplicate, {"name", "phone", "address"})
    Patient.objects.filter(pk=survivor.pk).update(phone="3")
    unmerged = unmerge(again(survivor), again(duplicate))
    assert (unmerged.name, unmerged.phone, unmerged.address) == ("Ana", "3", "Mysuru")


DAY = datetime.date


@pytest.mark.parametrize(
    ("survivors", "duplicates", "since", "expected"),
    [
        (  # the date of death before the merge lies before the birth that was entered since
            {"birth_date": DAY(1990, 5, 1), "deceased": True, "deceased_on": DAY(2000, 1, 1)},
            {"birth_date": DAY(1990, 5, 1), "deceased": True, "deceased_on": DAY(2010, 1, 1)},
            {"birth_date": DAY(2005, 5, 1), "birth_year": 2005},
            {"birth_date": DAY(2005, 5, 1), "birth_year": 2005, "deceased": True, "deceased_on": None},
        ),
        (  # the year follows the date that was entered since
            {"birth_year": 1980},
            {"birth_date": DAY(1990, 5, 1)},
            {"birth_date": DAY(1991, 5, 1), "birth_year": 1991},
            {"birth_date": DAY(1991, 5, 1), "birth_year": 1991},
        ),
        (  # alive after all
            {"deceased": True, "deceased_on": DAY(2000, 1, 1)},
            {"deceased": True},
            {"deceased": False},
            {"deceased": False, "deceased_on": None},
        ),
    ],
)
def test_a_value_that_contradicts_what_was_changed_since_is_emptied(
    alice: User, survivors: Any, duplicates: Any, since: Any, expected: Any
) -> None:
    survivor, duplicate = make_patient(alice, **survivors), make_patient(alice, **duplicates)
    chosen = {"birth_date", "birth_year", "deceased", "deceased_on"}
    merge(survivor, duplicate, chosen)
    Patient.objects.filter(pk=survivor.pk).update(**since)
    unmerged = unmerge(again(survivor), again(duplicate))
    assert {name: getattr(unmerged, name) for name in expected} == expected


@pytest.mark.parametrize("is_undone", [False, True])
def test_an_erasure_removes_what_the_survivor_took_from_the_duplicate(alice: User, is_undone: bool) -> None:
    survivor = make_patient(alice, name="Ana", address="Mysuru")
    duplicate = make_patient(alice, name=CANARY, address=f"{CANARY} 7", identifier=CANARY)
    merge(survivor, duplicate, {"name", "address", "identifier"})
    if is_undone:
        unmerge(again(survivor), again(duplicate))
    erased = duplicate if is_undone else survivor
    call_command("erase_patient", str(erased.pk), "--reason", "Request 17", "--yes", verbosity=0)
    assert tables_that_say(CANARY) == set()
    if is_undone:
        assert (again(survivor).name, again(survivor).address) == ("Ana", "Mysuru")


def test_an_erasure_leaves_nothing_in_what_a_later_merge_replaced(alice: User) -> None:
    survivor = make_patient(alice, name="Ana")
    first, second = make_patient(alice, name=CANARY), make_patient(alice, name="Anne")
    merge(survivor, first, {"name"})
    merge(again(survivor), second, {"name"})
    unmerge(again(survivor), again(first))
    call_command("erase_patient", str(first.pk), "--reason", "Request 17", "--yes", verbosity=0)
    assert tables_that_say(CANARY) == set()
    unmerge(again(survivor), again(second))
    assert again(survivor).name == "Ana"
    assert PatientEvent.objects.filter(id=survivor.pk, name="Anne").exists()
