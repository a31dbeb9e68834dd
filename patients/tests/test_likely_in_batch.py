"""Likely duplicates of a batch: the same people that are found one by one."""

import datetime
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from accounts.models import User
from healthcare.rls.context import entered
from healthcare.search.likeness import Vocabulary, WordLikeness
from healthcare.search.tests.names import CASES, PEOPLE
from patients import likely_in_batch
from patients.duplicates import find_likely_duplicates
from patients.likely_in_batch import Earlier, find_likely_in_batch
from patients.models import Patient
from patients.tests.factories import make_patient

LONG = " ".join(f"{letter}{letter}a" for letter in "abcdefghijklmnopqr")  # of 18 words
NAMES = [
    *PEOPLE, *(case.asked for case in CASES if case.asked.strip()), "Steven Harris", "Stefan Harris", "Smith", "John",
    "John Ronald Smith", "Smith Ronald John", "Jo Li", "Li", "An Li", "Ann Li", LONG, f"{LONG} zza", "Aaa Bba",
    "OBrien Sean",
]  # fmt: skip
DAYS = [datetime.date(1980, 5, 17), datetime.date(1980, 5, 18), datetime.date(1981, 1, 1)]
BIRTHS: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.sampled_from([{"birth_year": 1980}, {"birth_year": 1981}]),
    st.sampled_from([{"birth_date": day, "birth_year": day.year} for day in DAYS]),
)
PHONES = ["", "", "", "+91 80 5550 0100", "080-5550 0100", "5550 0100", "55500101", "12", "+91 80 5550 0100 x12"]
PAIRS = st.builds(
    lambda system, value: {"system": system, "value": value},
    st.sampled_from(["https://a.example", "https://b.example", "old"]), st.sampled_from(["M-1", "m1", "7"]),
)  # fmt: skip


@st.composite
def misspelt(draw: Any) -> str:
    """A name in which letters may be missing, doubled, swapped or replaced."""
    name: str = draw(st.sampled_from(NAMES))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, max(0, len(name) - 2)))
        name = draw(
            st.sampled_from([
                name[:at] + name[at + 1 :], name[:at] + name[at : at + 1] + name[at:],
                name[:at] + name[at : at + 2][::-1] + name[at + 2 :], name[:at] + "e" + name[at + 1 :],
            ])
        )  # fmt: skip
    return name if name.strip() else "Li"


PATIENTS = st.builds(
    lambda birth, **fields: birth | fields,
    birth=BIRTHS,
    name=misspelt(),
    gender=st.sampled_from("FU"),
    phone=st.sampled_from(PHONES),
    alternate_phone=st.sampled_from(PHONES),
    email=st.sampled_from(["", "", "a@example.org", "b@example.org", "A@example.org"]),
    identifier=st.sampled_from(["", "", "", "M-1", "7"]),
    identifiers=st.lists(PAIRS, max_size=2, unique_by=str),
)
SEVERAL = settings(
    max_examples=25, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


def found_one_by_one(owner: User, batch: list[dict[str, Any]]) -> list[set[int | Earlier]]:
    """What is found when each patient for whom there is nobody is saved before the next one is looked up."""
    saved: dict[int, int | Earlier] = {}
    found = []
    for position, fields in enumerate(batch):
        duplicates = find_likely_duplicates(Patient(created_by=owner, **fields))
        found.append({saved.get(one.patient.pk, one.patient.pk) for one in duplicates})
        if not duplicates:
            saved[make_patient(owner, **fields).pk] = Earlier(position)
    return found


def found_in_batch(
    owner: User, batch: list[dict[str, Any]], *, numbers_count: bool = True, vocabulary: Vocabulary | None = None
) -> list[set[int | Earlier]]:
    patients = [Patient(created_by=owner, **fields) for fields in batch]
    return find_likely_in_batch(
        owner.pk, patients, numbers_count=numbers_count, vocabulary=vocabulary or Vocabulary(WordLikeness())
    )


@pytest.mark.long
@pytest.mark.django_db
@pytest.mark.parametrize("most_compared", [0, 30])
def test_a_batch_finds_whom_one_request_after_the_other_finds(
    alice: User, bob: User, monkeypatch: pytest.MonkeyPatch, most_compared: int
) -> None:
    monkeypatch.setattr(likely_in_batch, "MOST_COMPARED", most_compared)
    vocabulary = Vocabulary(WordLikeness())  # the second batch adds words, and the next example has others

    @SEVERAL
    @given(on_record=st.lists(PATIENTS, max_size=8), batch=st.lists(PATIENTS, min_size=1, max_size=8))
    def check(on_record: list[dict[str, Any]], batch: list[dict[str, Any]]) -> None:
        with entered(alice.pk):
            for fields in on_record:
                make_patient(alice, **fields)
            for part in (batch[:4], batch[4:]):
                in_batch = found_in_batch(alice, part, vocabulary=vocabulary)
                assert in_batch == found_one_by_one(alice, part)
            transaction.set_rollback(True)

    for fields in [{"name": name} for name in PEOPLE]:
        make_patient(bob, **fields)
    check()


STEPHEN: dict[str, Any] = {"name": "Stephen Harris", "birth_date": DAYS[0], "birth_year": 1980}


@pytest.mark.django_db
def test_of_many_namesakes_born_on_one_day_the_last_ones_are_read(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import would be quadratic if it read all of them for each row."""
    fields: dict[str, Any] = {"name": "Unknown Person", "birth_date": DAYS[0], "birth_year": DAYS[0].year}
    Patient.objects.bulk_create(Patient(created_by=alice, **fields) for _ in range(400))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")  # whenever autovacuum comes, the plan is the same
    every = found_in_batch(alice, [fields])
    monkeypatch.setattr(likely_in_batch, "MOST_NAMESAKES", 100)
    with CaptureQueriesContext(connection) as queries:
        assert found_in_batch(alice, [fields]) == every
    last = Patient.objects.order_by("-pk").values_list("pk", flat=True)[: len(every[0])]
    assert every == [{*last}]
    [statement] = [query["sql"] for query in queries if "scanned AS" in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.replace('%', '%%')}")
        [([explained],)] = cursor.fetchall()
    assert 20 <= rows_read(explained["Plan"]) < 300


def rows_read(plan: dict[str, Any]) -> float:
    """How many rows of the patients a plan has looked up."""
    own = plan["Actual Rows"] * plan["Actual Loops"] if plan.get("Relation Name") == "patients_patient" else 0
    return float(own + sum(map(rows_read, plan.get("Plans", []))))


@pytest.mark.django_db
def test_a_similar_name_with_the_same_date_of_birth_is_found(alice: User) -> None:
    with entered(alice.pk):
        on_record = make_patient(alice, **STEPHEN)
        steven = STEPHEN | {"name": "Steven Harris"}
        katherine = STEPHEN | {"name": "Katherine Johnson"}
        batch = [steven, katherine, katherine | {"name": "Katharine Johnson"}, katherine | {"birth_date": DAYS[1]}]
        assert found_in_batch(alice, batch) == [{on_record.pk}, set(), {Earlier(1)}, set()]


@pytest.mark.django_db
def test_a_patient_for_whom_there_is_somebody_is_nobodys_duplicate(alice: User) -> None:
    with entered(alice.pk):
        assert found_in_batch(alice, [STEPHEN] * 4) == [set(), {Earlier(0)}, {Earlier(0)}, {Earlier(0)}]


@pytest.mark.django_db
def test_an_equal_number_counts_where_it_is_to(alice: User) -> None:
    with entered(alice.pk):
        on_record = make_patient(alice, name="John Smith", identifier="M-1")
        batch: list[dict[str, Any]] = [{"name": "Meera Rao", "identifier": "m1"}]
        assert found_in_batch(alice, batch, numbers_count=True) == [{on_record.pk}]
        assert found_in_batch(alice, batch, numbers_count=False) == [set()]


@pytest.mark.django_db
def test_a_merged_patient_is_found_by_both_names(alice: User) -> None:
    with entered(alice.pk):
        survivor, duplicate = make_patient(alice, **STEPHEN), make_patient(alice, **STEPHEN | {"name": "Esteban Haris"})
        Patient.objects.filter(pk=duplicate.pk).update(deleted_at=timezone.now(), merged_into=survivor)
        assert found_in_batch(alice, [STEPHEN | {"name": "Haris Esteban"}]) == [{survivor.pk}]


@pytest.mark.django_db
def test_the_patients_of_others_and_deleted_ones_are_not_found(alice: User, bob: User) -> None:
    make_patient(bob, **STEPHEN)
    make_patient(alice, **STEPHEN, deleted_at=timezone.now())
    with entered(alice.pk):
        assert found_in_batch(alice, [STEPHEN]) == [set()]


@pytest.mark.django_db
def test_the_number_of_statements_does_not_grow_with_the_rows(alice: User) -> None:
    with entered(alice.pk):
        make_patient(alice, **STEPHEN)
        sent = []
        for rows in (1, 50):
            batch = [
                STEPHEN | {"name": f"Stephen {chr(97 + number % 26)}{number}o", "phone": "123"}
                for number in range(rows)
            ]
            with CaptureQueriesContext(connection) as queries:
                found_in_batch(alice, batch)
            sent.append(len(queries))
        assert sent[0] == sent[1] < 15
