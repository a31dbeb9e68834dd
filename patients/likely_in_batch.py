"""Likely duplicates of many unsaved patients at once, by the rules of `duplicates`, in a few statements."""

import json
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from healthcare.phones import as_search_text
from healthcare.search.likeness import (
    AskedName,
    NameReader,
    StoredName,
    Vocabulary,
    pair_of,
    plain_asked,
    plain_stored,
    rank_name,
)
from healthcare.search.plain_text import phone_digits
from patients.duplicates import MAXIMUM, LikelyDuplicate, compare, searched_names
from patients.identifiers import OLD, letters_and_digits, numbers_of
from patients.likely_in_batch_statements import (
    BORN_ALIKE,
    LONGEST_BEGINNING,
    PHONE_DIGITS,
    RECORDS_OF_EQUAL_NAME,
    SAME_EMAIL,
    SAME_NUMBER,
    SAME_PHONE,
    SHORTEST_BEGINNING,
    SHORTEST_PHONE,
    SIMILAR_NAMES,
    TERMS,
    UNKNOWN_BIRTH,
    WORDS,
)
from patients.models import Patient

# Patients on record with the same date or year of birth whose names are compared one by one. Where there are more, the
# terms of search find those with a similar name.
MOST_COMPARED = 30
MOST_NAMESAKES = 1000  # of those; where there are more with a similar name, the last of each term are read


@contextmanager
def plans_without_sorting() -> Iterator[None]:
    """Have a statement with ORDER BY read the index that has this order. The statistics know nothing of an owner whose
    patients came in this transaction, and PostgreSQL would take another index and filter all of them."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('enable_sort', 'off', true)")
        yield
        cursor.execute("SELECT set_config('enable_sort', 'on', true)")


@dataclass(frozen=True)
class Earlier:
    """An earlier patient of the batch."""

    position: int


@dataclass
class BatchPatient:
    """A patient of the batch. `asked` are the names that are searched for; `stored` is what the name would be found by;
    `digits` are those of each phone; `on_record` are ids of patients who may be the same person; of these,
    `same_contact` have a phone, an e-mail or a number in common."""

    patient: Patient
    asked: list[AskedName]
    stored: StoredName
    on_record: set[int] = field(default_factory=set)
    same_phone: set[int] = field(default_factory=set)
    same_contact: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        patient = self.patient
        self.born = patient.birth_year is not None
        self.numbers = numbers_of(patient)
        self.phones = {as_search_text(phone) for phone in (patient.phone, patient.alternate_phone) if phone}
        self.digits = {phone: digits for phone in self.phones if (digits := phone_digits(phone)) is not None}
        # What it is looked up by and stored under, beside its phones, its births and its name.
        self.keys: list[Hashable] = [("number", number) for number in self.numbers]
        if email := letters_and_digits(patient.email):
            self.keys.append(("email", email))
        self.equal_names = [pair for one in self.asked for pair in equal_names_of(one)]

    @classmethod
    def of_plain_name(cls, patient: Patient) -> "BatchPatient | None":
        """Without a query, if `NameReader.reads_plain_names` holds and the name is plain."""
        stored = plain_stored(patient.name)
        searched = searched_names(patient)
        asked = [one for name in searched if (one := plain_asked(name)) is not None]
        return cls(patient, asked, stored) if stored is not None and len(asked) == len(searched) else None

    def has_same_phone(self, other: "BatchPatient") -> bool:
        return any(is_same_phone(one, two) for one in self.digits.values() for two in other.digits.values())


def equal_names_of(asked: AskedName) -> Iterator[tuple[str, list[str]]]:
    """Terms of records with an equal name, each with the words that must be there beside it."""
    if len(asked.words) == 1:
        yield asked.words[0], []
    elif asked.words:
        yield pair_of(asked.words[0], asked.words[1]), asked.words[2:]
        yield f"long:{asked.words[0]}", asked.words[1:]


def find_likely_in_batch(
    owner_id: int,
    patients: Sequence[Patient],
    *,
    numbers_count: bool,
    vocabulary: Vocabulary,
    prepared: Sequence[BatchPatient | None] = (),
) -> list[set[int | Earlier]]:
    """Of each of these unsaved patients, who is likely the same person: at most MAXIMUM ids of the owner's active
    patients, and those earlier patients of the batch for whom none was found.

    That is what a POST of each in turn would find that refuses likely duplicates. numbers_count: whether an equal
    number alone makes two patients likely the same. vocabulary: any one, which the next batch may use again. prepared:
    what `BatchPatient.of_plain_name` has made of each patient, if that was done ahead.
    """
    if not patients:
        return []
    rows = prepare_patients(patients, vocabulary.names, prepared)
    return LikelyBatch(owner_id, rows, numbers_count=numbers_count, vocabulary=vocabulary).find_likely()


def prepare_patients(
    patients: Sequence[Patient], names: NameReader, prepared: Sequence[BatchPatient | None]
) -> list[BatchPatient]:
    if not prepared or not names.reads_plain_names:
        prepared = [None] * len(patients)
    others = [patient for patient, row in zip(patients, prepared, strict=True) if row is None]
    searched = [searched_names(patient) for patient in others]
    asked = iter(names.read_asked([name for some in searched for name in some]))
    stored = names.read_stored([patient.name for patient in others])
    read = (
        BatchPatient(patient, [next(asked) for _ in some], own)
        for patient, some, own in zip(others, searched, stored, strict=True)
    )
    return [next(read) if row is None else row for row in prepared]


class LikelyBatch:
    def __init__(self, owner_id: int, rows: list[BatchPatient], *, numbers_count: bool, vocabulary: Vocabulary) -> None:
        self.owner_id, self.rows, self.numbers_count = owner_id, rows, numbers_count
        self.vocabulary, self.likeness = vocabulary, vocabulary.likeness
        self.likeness.learn(word for row in self.rows for one in row.asked for word in one.words)
        self.likeness.learn(word for row in self.rows for word in row.stored.words)

    def query(self, statement: str, **values: Any) -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute(statement, {"owner": self.owner_id, "maximum": MAXIMUM, **values})
            rows: list[Any] = cursor.fetchall()
            return rows

    def find_likely(self) -> list[set[int | Earlier]]:
        self.find_by_phone()
        self.find_by_email()
        self.find_by_number()
        for row in self.rows:
            row.same_contact = {*row.on_record}
        self.find_by_equal_name()
        self.find_by_birth()
        found: list[set[int | Earlier]] = [{*ids} for ids in self.choose_on_record()]
        stored: dict[Hashable, list[int]] = defaultdict(list)
        for position, row in enumerate(self.rows):
            found[position].update(self.earlier(row, stored))
            if not found[position]:
                for key in {*keys_of_phones(row, asked=False), *row.keys, *keys_of_births(row.patient)}:
                    stored[key].append(position)
                for term in row.stored.terms:
                    stored["name", term, row.born].append(position)
        return found

    def choose_on_record(self) -> list[list[int]]:
        """The likeliest patients on record of each row."""
        ids = {record for row in self.rows for record in row.on_record}
        names = {record: StoredName.of(terms) for record, terms in self.query(TERMS, records=list(ids))}
        self.likeness.learn(word for name in names.values() for word in name.words)
        ranks = [{record: self.rank(row, names.get(record)) for record in row.on_record} for row in self.rows]
        wanted = {
            record
            for row, ranked in zip(self.rows, ranks, strict=True)
            for record, rank in ranked.items()
            if rank is not None or (row.numbers and record in row.same_contact)
        }
        others = Patient.objects.filter(created_by_id=self.owner_id).active().in_bulk(wanted)
        chosen = []
        for row, ranked in zip(self.rows, ranks, strict=True):
            compared = [
                self.compare(row, others[record], rank, same_phone=record in row.same_phone)
                for record, rank in ranked.items()
                if record in others
            ]
            likely = [one for one in compared if one is not None]
            likely.sort(key=lambda one: (-one.weight, -one.patient.pk))
            chosen.append([one.patient.pk for one in likely[:MAXIMUM]])
        return chosen

    def earlier(self, row: BatchPatient, stored: dict[Hashable, list[int]]) -> Iterator[Earlier]:
        """The earlier rows, of those in `stored`, that are likely the same person."""
        same_phone = {
            position
            for key in keys_of_phones(row, asked=True)
            for position in stored.get(key, ())
            if key[0] == "value" or row.has_same_phone(self.rows[position])
        }
        keys = [*row.keys, *births_that_agree(row.patient)]
        for term, _ in row.equal_names:
            keys += [("name", term, False), ("name", term, True)][: 1 if row.born else 2]
        for position in same_phone.union(*(stored.get(key, ()) for key in keys)):
            other = self.rows[position]
            rank = self.rank(row, other.stored)
            if self.compare(row, other.patient, rank, same_phone=position in same_phone):
                yield Earlier(position)

    def rank(self, row: BatchPatient, stored: StoredName | None) -> int | None:
        """The best rank at which a search for one of the row's names finds a record."""
        ranks = [rank_name(one, stored, self.likeness.rank) for one in row.asked] if stored else []
        return min((rank for rank in ranks if rank is not None), default=None)

    def compare(
        self, row: BatchPatient, other: Patient, rank: int | None, *, same_phone: bool
    ) -> LikelyDuplicate | None:
        if rank is None and not row.numbers:
            return None  # spares the comparison
        return compare(row.patient, other, rank, same_phone=same_phone, numbers_count=self.numbers_count)

    def find_by_phone(self) -> None:
        rows: dict[str, list[BatchPatient]] = defaultdict(list)
        for row in self.rows:
            for text in row.phones:
                rows[text].append(row)
        texts = list(rows)
        if not texts:
            return
        self.read_other_digits()
        all_digits = [rows[text][0].digits[text] for text in texts]
        for place, record in self.query(SAME_PHONE, texts=texts, digits=all_digits):
            for row in rows[texts[place - 1]]:
                row.same_phone.add(record)
                row.on_record.add(record)

    def read_other_digits(self) -> None:
        others = {phone for row in self.rows for phone in row.phones - row.digits.keys()}
        read = dict(self.query(PHONE_DIGITS, phones=[*others])) if others else {}
        for row in self.rows:
            row.digits |= {phone: read[phone] for phone in row.phones - row.digits.keys()}

    def find_by_email(self) -> None:
        rows: dict[str, list[BatchPatient]] = defaultdict(list)
        for row in self.rows:
            if row.patient.email:
                rows[row.patient.email].append(row)
        texts = list(rows)
        for place, record in self.query(SAME_EMAIL, texts=texts) if texts else []:
            for row in rows[texts[place - 1]]:
                row.on_record.add(record)

    def find_by_number(self) -> None:
        rows: dict[tuple[str, str], list[BatchPatient]] = defaultdict(list)
        for row in self.rows:
            for number in row.numbers:
                rows[number].append(row)
        numbers = list(rows)
        if not numbers:
            return
        values = {"systems": [system for system, _ in numbers], "values": [value for _, value in numbers]}
        for place, record in self.query(SAME_NUMBER, old=OLD, **values):
            for row in rows[numbers[place - 1]]:
                row.on_record.add(record)

    def find_by_equal_name(self) -> None:
        """Those of which a birth is unknown; births that agree find the others."""
        [[any_of_unknown_birth]] = self.query(UNKNOWN_BIRTH)
        asked = [
            {"place": place, "term": term, "others": others, "born": row.born}
            for place, row in enumerate(self.rows)
            if any_of_unknown_birth or not row.born
            for term, others in row.equal_names
        ]
        for place, record in self.query(RECORDS_OF_EQUAL_NAME, asked=json.dumps(asked)) if asked else []:
            self.rows[place].on_record.add(record)

    def find_by_birth(self) -> None:
        births = {(row.patient.birth_year, row.patient.birth_date) for row in self.rows}
        dates = sorted({day for _, day in births if day})
        years = sorted({year for year, _ in births if year})
        dateless = sorted({year for year, day in births if year and not day})
        asked: dict[str, list[Any]] = {"date": dates, "undated": years, "dated": dateless}
        found: dict[Hashable, list[int]] = defaultdict(list)
        values = {"dates": dates, "years": years, "dateless": dateless, "most": MOST_COMPARED + 1}
        with plans_without_sorting():
            born_alike = self.query(BORN_ALIKE, **values) if years else []
        for kind, place, record in born_alike:
            found[kind, asked[kind][place - 1]].append(record)
        crowded = []
        for row in self.rows:
            groups = [found.get(key, []) for key in births_that_agree(row.patient)]
            if all(len(group) <= MOST_COMPARED for group in groups):
                row.on_record.update(*groups)
            else:
                crowded.append(row)
        if crowded:
            self.find_by_similar_name(crowded)

    def find_by_similar_name(self, rows: list[BatchPatient]) -> None:
        """Those whose births agree, where there are too many of them to compare all names."""
        self.vocabulary.replace({word for (word,) in self.query(WORDS)})
        asked = [
            {"place": place, "day": row.patient.birth_date, "year": row.patient.birth_year, **similar}
            for place, row in enumerate(rows)
            for one in row.asked
            if (similar := similar_terms(one, self.vocabulary))
        ]
        values = {"asked": json.dumps(asked, default=str), "scanned": MOST_NAMESAKES}
        for place, record in self.query(SIMILAR_NAMES, **values) if asked else []:
            rows[place].on_record.add(record)


def similar_terms(asked: AskedName, vocabulary: Vocabulary) -> dict[str, list[str]]:
    """The terms of records with a similar name: `terms`, and those of each pair of `ones` and `twos`. Empty where no
    record can have one."""
    near = [vocabulary.near(word) for word in asked.words[:2]]
    terms = [asked.key] if asked.key and vocabulary.has(asked.key) else []
    if len(near) == 1:
        terms += near[0]
    if not all(near) or len(near) < 2:
        return {"terms": terms, "ones": [], "twos": []} if terms else {}
    return {"terms": terms + [f"long:{word}" for word in near[0]], "ones": near[0], "twos": near[1]}


def births_that_agree(patient: Patient) -> list[Hashable]:
    if patient.birth_year is None:
        return []
    same = ("date", patient.birth_date) if patient.birth_date else ("dated", patient.birth_year)
    return [same, ("undated", patient.birth_year)]


def keys_of_births(patient: Patient) -> list[Hashable]:
    if patient.birth_year is None:
        return []
    if patient.birth_date is None:
        return [("undated", patient.birth_year)]
    return [("date", patient.birth_date), ("dated", patient.birth_year)]


def keys_of_phones(row: BatchPatient, *, asked: bool) -> Iterator[tuple[str, str]]:
    """A phone may be the same as one with this beginning, and is the same as an equal number."""
    values = map(letters_and_digits, row.digits) if asked else (value for _, value in row.numbers)
    for value in values:
        yield "value", value
    for digits in row.digits.values():
        yield "phone", digits[:SHORTEST_BEGINNING]


def is_same_phone(asked: str, stored: str) -> bool:
    """Whether these digits, from the last one on, are equal or one of them begins with the other."""
    if len(asked) < SHORTEST_BEGINNING or len(stored) < SHORTEST_BEGINNING:
        return asked == stored and len(asked) >= SHORTEST_PHONE
    return stored.startswith(asked) or (asked.startswith(stored) and len(stored) <= LONGEST_BEGINNING)
