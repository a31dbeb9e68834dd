"""`?search=` of alice's patients and of the directory: by what, in which order, in pages, and who it is not for."""

import datetime
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from audit.models import AccessLog
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from healthcare.api.tests.test_pagination import ids, links
from patients.models import Patient
from patients.tests.factories import make_patient


def names(client: APIClient, text: str, path: str = "/api/patients/", **more: str) -> list[str]:
    answer = client.get(path, {"search": text, **more})
    assert answer.status_code == 200, answer.content
    return [row["name"] for row in answer.json()]


PHONES = ["+91 80 5550 0100", "080-5550 0100", "(080) 5550.0100", "0091 80 55500100", "5550 0100", "80 5550 0100 x7"]
# Other forms of queries, since only ASCII is stored.
ASKED = [
    *PHONES, "(+91) 80 5550 0100", "tel:+91-80-5550-0100", "TEL:080 5550 0100;ext=7", "080 5550 0100 Ext 7",
    "080 5550 0100 #7", "080\u00a05550\u202f0100", "080\u20115550\u22120100", "\u202a+91 80 5550 0100\u202c",
    "\u200e08055500100",
    "٠٨٠٥٥٥٠٠١٠٠", "+۹۱ ۸۰ ۵۵۵۰ ۰۱۰۰", "०८० ५५५० ०१००", "０８０－５５５０－０１００", "𝟎𝟖𝟎 𝟓𝟓𝟓𝟎 𝟎𝟏𝟎𝟎 x٧", "๐๘๐๕๕๕๐๐๑๐๐",
]  # fmt: skip


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("stored", PHONES)
def test_a_phone_is_found_however_it_is_written(as_alice: LoggedInClient, alice: User, stored: str, asked: str) -> None:
    make_patient(alice, name="Asha", phone=stored)
    make_patient(alice, name="Another", phone="+91 80 5550 0101")
    assert names(as_alice, asked) == ["Asha"]


@pytest.mark.parametrize("asked", ["5550100", "0100", "+91 80 5550 01000", "5550 0100 5550"])
def test_another_number_is_not_found(as_alice: LoggedInClient, alice: User, asked: str) -> None:
    make_patient(alice, phone="+91 80 5550 0100")
    assert names(as_alice, asked) == []


def test_an_email_and_an_identifier_are_found_whole(as_alice: LoggedInClient, alice: User) -> None:
    make_patient(alice, name="Asha", email="Asha.Nair@Example.org", identifier="MRN-0012/B")
    make_patient(alice, name="Other", email="asha.nair@example.com", identifier="MRN-0012/C")
    for asked in ("asha.nair@example.org", "ASHA.NAIR@EXAMPLE.ORG", "mrn 0012 b", "MRN0012B", "MRN-0012/B"):
        assert names(as_alice, asked) == ["Asha"], asked
    assert names(as_alice, "MRN-0012") == []


def test_the_best_match_comes_first_and_the_newest_of_equals(as_alice: LoggedInClient, alice: User) -> None:
    for name in ("Jon Smyth", "Johnny Smithson", "John Smith", "Smith, John", "Jane Doe", "Jhon Smith"):
        make_patient(alice, name=name)
    make_patient(alice, name="By number", identifier="John Smith")
    expected = ["By number", "Smith, John", "John Smith", "Johnny Smithson", "Jhon Smith", "Jon Smyth"]
    assert names(as_alice, "john smith") == expected


def test_the_pages_give_every_match_once_forth_and_back(as_alice: LoggedInClient, alice: User) -> None:
    kinds = ["John Smith", "Johnny Smith", "Jon Smyth", "John Smith Johnny", "Nobody Else"]
    Patient.objects.bulk_create(Patient(created_by=alice, name=kinds[number % 5]) for number in range(60))
    expected = ids(as_alice.get("/api/patients/?search=john smith&limit=500"))
    assert len(expected) == len(set(expected)) == 48
    for limit in (1, 5, 7, 12, 47, 48):
        answer = as_alice.get(f"/api/patients/?search=john smith&limit={limit}&count=true")
        assert answer.headers["X-Total-Count"] == "48"
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


def test_more_than_two_words_all_count_on_every_page(as_alice: LoggedInClient, alice: User) -> None:
    kinds = ["Maria José Silva", "Maria Jose Silvas", "Maria José Souza", "Marie Joss Silva", "José Silva"]
    Patient.objects.bulk_create(Patient(created_by=alice, name=kinds[number % 5]) for number in range(25))
    answer, found = as_alice.get("/api/patients/?search=maria jose silva&limit=4"), []
    while True:
        found += [row["name"] for row in answer.json()]
        if "next" not in links(answer):
            break
        answer = as_alice.get(links(answer)["next"])
    assert found == ["Maria José Silva"] * 5 + ["Maria Jose Silvas"] * 5 + ["Marie Joss Silva"] * 5


def test_a_search_is_filtered_shaped_and_includes_as_a_list(as_alice: LoggedInClient, alice: User) -> None:
    doctor = make_doctor(alice, name="Rao")
    for gender in "MFU":
        make_patient(alice, name="John Smith", gender=gender)
    woman = Patient.objects.get(gender="F")
    as_alice.post("/api/mappings/", {"patient": woman.pk, "doctor": doctor.pk})
    for query in ("gender=F", f"doctor={doctor.pk}", "gender=F&count=true"):
        answer = as_alice.get(f"/api/patients/?search=jon smith&fields=gender&include=doctors&{query}")
        assert [(row["gender"], [one["name"] for one in row["doctors"]]) for row in answer.json()] == [("F", ["Rao"])]
    assert answer.headers["X-Total-Count"] == "1"


def test_deleted_patients_are_found_among_the_deleted_alone(as_alice: LoggedInClient, alice: User) -> None:
    gone, here = make_patient(alice, name="John Gone"), make_patient(alice, name="John Here")
    as_alice.delete(f"/api/patients/{gone.pk}/")
    assert names(as_alice, "john") == ["John Here"]
    assert names(as_alice, "john", deleted="true") == ["John Gone"]
    as_alice.post(f"/api/patients/{gone.pk}/restore/")
    Patient.objects.filter(pk=here.pk).end()
    assert names(as_alice, "john") == ["John Gone"]


def test_bobs_patients_are_not_found(as_alice: LoggedInClient, bob: User) -> None:
    make_patient(bob, name="Zebulon Quux", phone="+91 80 5550 0100", email="z@example.org", identifier="Z-1")
    for asked in ("Zebulon Quux", "Zebulan", "zeb", "080 5550 0100", "z@example.org", "Z-1"):
        assert names(as_alice, asked) == []


def test_anyone_finds_a_doctor(anonymous: APIClient, as_bob: LoggedInClient, alice: User) -> None:
    make_doctor(alice, name="Dr. Meera Rao", license_number="KMC-77", phone="080 5550 0100", email="rao@example.org")
    gone = make_doctor(alice, name="Dr. Meera Gone")
    Doctor.objects.filter(pk=gone.pk).end()
    for client in (anonymous, as_bob):
        for asked in ("meera", "Mera Rao", "rao", "kmc77", "+91 80 5550 0100", "rao@example.org"):
            assert names(client, asked, "/api/doctors/") == ["Dr. Meera Rao"], asked
        assert names(client, "John", "/api/doctors/") == []
    assert names(as_bob, "meera", "/api/doctors/", deleted="true") == ["Dr. Meera Gone"]


@pytest.mark.parametrize("text", ["\0", "x" * 201, "\ud800".encode("utf-8", "surrogatepass")])
def test_an_invalid_search_text_is_a_400(as_alice: LoggedInClient, text: Any) -> None:
    answer = as_alice.get("/api/patients/", {"search": text})
    if isinstance(text, bytes):  # Django replaces bytes that are not UTF-8, so nothing is found
        assert (answer.status_code, answer.json()) == (200, [])
        return
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/search"]


def test_parameters_that_contradict_a_search_are_a_400(as_alice: LoggedInClient, alice: User) -> None:
    for _ in range(2):
        make_patient(alice)
    then = timezone.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    plain = links(as_alice.get("/api/patients/?limit=1"))["next"]
    found = links(as_alice.get("/api/patients/?limit=1&search=john"))["next"]
    for target, pointer in (
        ("/api/patients/?search=x&ordering=name", "/ordering"),
        (f"/api/patients/?search=x&as_of={then}", "/search"),
        (f"{plain}&search=john", "/cursor"),
        (found.replace("&search=john", ""), "/cursor"),
    ):
        answer = as_alice.get(target)
        assert answer.status_code == 400, target
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


QUERIES = ["what the words are like", "what matches", "the page"]  # each with the session


@pytest.mark.parametrize("rows", [10, 100])
@pytest.mark.parametrize("asked", ["John Smith", "Jon Smyth", "smith", "jo"])
def test_a_search_costs_the_same_queries_however_many_it_finds(
    as_alice: LoggedInClient, alice: User, asked: str, rows: int
) -> None:
    Patient.objects.bulk_create(Patient(created_by=alice, name="John Smith") for _ in range(rows))
    with CaptureQueriesContext(connection) as queries:
        assert len(names(as_alice, asked)) == rows
    statements = [query["sql"] for query in queries if not query["sql"].startswith(("SAVEPOINT", "RELEASE"))]
    assert len(statements) == len(QUERIES), statements


def test_a_page_that_the_exact_matches_do_not_fill_costs_one_more(as_alice: LoggedInClient, alice: User) -> None:
    for name in ("John Smith", "Johnny Smith", "Jon Smyth"):
        make_patient(alice, name=name)
    with CaptureQueriesContext(connection) as queries:
        assert len(names(as_alice, "john smith")) == 3
    statements = [query["sql"] for query in queries if not query["sql"].startswith(("SAVEPOINT", "RELEASE"))]
    assert len(statements) == len(QUERIES) + 1, statements


def test_nobody_is_found_without_a_look_at_the_patients(as_alice: LoggedInClient, alice: User) -> None:
    make_patient(alice)
    with CaptureQueriesContext(connection) as queries:
        assert names(as_alice, "Zzyzx Quux") == []
    statements = [query["sql"] for query in queries if not query["sql"].startswith(("SAVEPOINT", "RELEASE"))]
    assert len(statements) == 2, statements


def test_a_search_is_a_read_of_what_it_finds(as_alice: LoggedInClient, alice: User) -> None:
    found, _ = make_patient(alice, name="Asha"), make_patient(alice, name="Other")
    names(as_alice, "Asha")
    read = AccessLog.objects.latest("id")
    assert (read.action, read.patient_ids) == ("patient.list", [found.pk])


def test_hostile_texts_find_nothing_and_cause_no_error(as_alice: LoggedInClient, alice: User) -> None:
    make_patient(alice, name="John Smith", birth_date=datetime.date(1990, 1, 1), birth_year=1990)
    for text in ("%", "_____", "\\", "' OR 1=1 --", "(((", "a" * 200, "@", "+", "0" * 200, "x1" * 90, "\u202e\u0300"):
        assert names(as_alice, text) == [], text
    assert names(as_alice, " ".join(["john", "smith"] * 15)) == ["John Smith"]
