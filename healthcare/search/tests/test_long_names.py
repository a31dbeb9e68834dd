"""A name within the length limit is found by each of its words, however many there are."""

import importlib
import string
from typing import Any

import pytest
from django.apps import apps
from django.db import connection
from rest_framework.test import APIClient

from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.api.tests.test_pagination import ids, links
from healthcare.search.tests.test_search import names
from patients.models import Patient
from patients.tests.factories import make_patient

TERMS = apps.get_model("patients.PatientTerm")
# As many one-letter words as a name of 200 characters has, all different after normalization.
LETTERS = (
    string.ascii_lowercase + string.digits + "βγδζθλξπφχψω" + "бвгджзлмнпрстфхцчшщъыьэюя" + "אבגדהוזחטיכלמנסעפצקרשת"
)
LONG_NAMES = [
    "María de los Ángeles Rodríguez de la Fuente Gómez",
    "Pedro de Alcântara Francisco António João Carlos Xavier de Paula Miguel Rafael Joaquim José Gonzaga Pascoal "
    "Cipriano Serafim de Bragança e Bourbon",
    " ".join(dict.fromkeys(LETTERS))[:200],
    "-".join(f"{first}{second}" for first in "abcdefgh" for second in "klmnpqrs")[:200],
    "阿不都 热合曼 买买提 艾力 吐尔逊 古丽",
    "王 小 明 李 娜",
    "김 민수 박 지영",
    " ".join(f"王{letter}明 李" for letter in "一二三四五六七八九十百千")[:200],
    "А. Б. В. Г. Д. Е. Иванов-Петров-Сидоров-Водкин",
]


def words_of(name: str) -> list[str]:
    return name.replace("-", " ").replace(".", " ").split()


def test_the_longest_names_have_as_many_words_as_fit() -> None:
    assert max(len(set(words_of(name))) for name in LONG_NAMES) > 80
    assert all(len(name) <= 200 for name in LONG_NAMES)


@pytest.mark.parametrize("name", LONG_NAMES)
def test_every_word_finds_the_patient_and_the_doctor(
    as_alice: LoggedInClient, anonymous: APIClient, alice: User, name: str
) -> None:
    make_patient(alice, name=name)
    make_doctor(alice, name=name)
    for word in dict.fromkeys(words_of(name)):
        assert names(as_alice, word) == [name], word
        assert names(anonymous, word, "/api/doctors/") == [name], word


@pytest.mark.parametrize("name", LONG_NAMES)
def test_the_whole_name_and_any_of_its_words_together_find_it(
    as_alice: LoggedInClient, anonymous: APIClient, alice: User, name: str
) -> None:
    make_patient(alice, name=name)
    make_doctor(alice, name=name)
    words = words_of(name)
    for asked in (
        name, name.upper(), " ".join(reversed(words)), f"{words[0]} {words[-1]}", f"{words[-1]} {words[1]}",
        " ".join(words[-3:]), " ".join(words[::2]), " ".join(words[:13]),
    ):  # fmt: skip
        assert names(as_alice, asked) == [name], asked
        assert names(anonymous, asked, "/api/doctors/") == [name], asked
        assert names(as_alice, f"{asked[:180]} zzyzx-abcdefghijk") == []


@pytest.mark.parametrize("name", LONG_NAMES)
def test_the_same_name_and_birth_date_is_a_likely_duplicate(as_alice: LoggedInClient, alice: User, name: str) -> None:
    body = {"name": name, "birth_date": "1980-05-17"}
    assert as_alice.post("/api/patients/?on_duplicate=reject", body).status_code == 201
    again = as_alice.post("/api/patients/?on_duplicate=reject", body)
    assert (again.status_code, [row["agrees_on"] for row in again.json()["duplicates"]]) == (
        409,
        [["name", "birth_date"]],
    )


def long_name(*first: str) -> str:
    return " ".join([*first, *(f"w{number}" for number in range(20))])


@pytest.mark.slow
def test_long_and_ordinary_names_rank_alike_on_every_page(as_alice: LoggedInClient, alice: User) -> None:
    kinds = ["Maria Silva", long_name("Maria", "Silva"), long_name("Maria", "Silvas"), long_name("Marja", "Silva"),
             long_name("Maria"), long_name("Silva")]  # fmt: skip
    Patient.objects.bulk_create(Patient(created_by=alice, name=kinds[number % 6]) for number in range(30))
    for asked, ranked in (
        ("maria silva", [kinds[:2], kinds[2:3], kinds[3:4]]),
        ("maria silva w7", [kinds[1:2], kinds[2:3], kinds[3:4]]),
        ("w1 w2 maria silva", [kinds[1:2], kinds[2:3], kinds[3:4]]),
    ):
        expected = ids(as_alice.get("/api/patients/", {"search": asked, "limit": "500"}))
        found = [names(as_alice, asked)[start : start + 5 * len(kind)] for start, kind in slices(ranked)]
        assert [sorted(set(part)) for part in found] == [sorted(kind) for kind in ranked]
        assert len(expected) == len(set(expected)) == 5 * sum(map(len, ranked))
        for limit in (1, 4, 7):
            answer = as_alice.get("/api/patients/", {"search": asked, "limit": str(limit), "count": "true"})
            assert answer.headers["X-Total-Count"] == str(len(expected))
            forth = [ids(answer)]
            while "next" in links(answer):
                answer = as_alice.get(links(answer)["next"])
                forth.append(ids(answer))
            assert sum(forth, []) == expected
            back = [forth[-1]]
            while "prev" in links(answer):
                answer = as_alice.get(links(answer)["prev"])
                back.insert(0, ids(answer))
            assert back == forth


def slices(ranked: list[list[str]]) -> list[tuple[int, list[str]]]:
    starts, at = [], 0
    for kind in ranked:
        starts.append((at, kind))
        at += 5 * len(kind)
    return starts


def test_a_long_name_costs_at_most_two_terms_a_word_and_an_ordinary_one_its_pairs(alice: User) -> None:
    for name in LONG_NAMES[2:4]:
        patient = make_patient(alice, name=name)
        terms = set(TERMS.objects.filter(record=patient.pk).values_list("term", flat=True))
        words = {term for term in terms if ":" not in term}
        assert terms == words | {f"long:{word}" for word in words}
    for count, expected in ((2, 3), (3, 6), (4, 10), (16, 136)):
        patient = make_patient(alice, name=" ".join(f"word{number}" for number in range(count)))
        assert TERMS.objects.filter(record=patient.pk).count() == expected


@pytest.mark.parametrize("app", ["patients", "doctors"])
def test_the_migration_adds_the_terms_of_the_records_that_exist(
    as_alice: LoggedInClient, alice: User, app: str
) -> None:
    make: Any = make_patient if app == "patients" else make_doctor
    table, path = {"patients": "patients_patient", "doctors": "doctors_doctor"}[app], f"/api/{app}/"
    records = [make(alice, name=name) for name in [*LONG_NAMES, "Asha Nair"]]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT record, term FROM {table}term ORDER BY 1, 2")  # noqa: S608
        terms = cursor.fetchall()
        cursor.execute(f"DELETE FROM {table}term WHERE record <> %s AND term LIKE '%%o%%'", [records[-1].pk])  # noqa: S608
        cursor.execute(f"DELETE FROM {table}term WHERE record <> %s AND term NOT LIKE '%%e%%'", [records[-1].pk])  # noqa: S608
        cursor.execute(importlib.import_module(f"{app}.migrations.0003_words_of_long_names").REBUILD)
        cursor.execute(f"SELECT record, term FROM {table}term ORDER BY 1, 2")  # noqa: S608
        assert cursor.fetchall() == terms
    assert names(as_alice, "gomez", path) == LONG_NAMES[:1]


def test_the_migration_follows_merged_records(as_alice: LoggedInClient, alice: User) -> None:
    survivor, duplicate = make_patient(alice, name="Asha"), make_patient(alice, name=LONG_NAMES[0])
    as_alice.post(f"/api/patients/{survivor.pk}/merge/", {"duplicate": duplicate.pk})
    TERMS.objects.filter(term__contains="gomez").delete()
    with connection.cursor() as cursor:
        cursor.execute(importlib.import_module("patients.migrations.0003_words_of_long_names").REBUILD)
    assert names(as_alice, "gomez") == names(as_alice, LONG_NAMES[0]) == ["Asha"]
