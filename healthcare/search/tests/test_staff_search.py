"""The search of staff in the admin finds what the API's search finds, among the records of all owners."""

import datetime
import random
from typing import Any
from urllib.parse import quote

import pytest
from django.apps import apps
from django.db import connection, transaction
from django.db.utils import ProgrammingError

from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.search.staff_hits import NarrowedHits, StaffHits
from healthcare.search.statements import PageOfHits
from healthcare.search.tests.names import PEOPLE
from healthcare.tests.admin_pages import AdminClient
from mappings.tests.factories import make_mapping
from patients.merges import merge
from patients.models import PATIENT_SEARCH, Patient
from patients.tests.factories import make_patient

PATIENTS, MAPPINGS = "/admin/patients/patient/", "/admin/mappings/mapping/"
KNOWN_WORDS: Any = apps.get_model("patients", "PatientKnownWord")


@pytest.fixture
def admin(staff: User) -> AdminClient:
    return AdminClient(staff)


def found(admin: AdminClient, path: str) -> list[int]:
    return [row.pk for row in admin.get(path).context["cl"].result_list]


@pytest.mark.parametrize(
    "text",
    ["demo pateint", "Pateint", "DEMO", "patie", "dem", "+91 98450 00000", "9845000000", "(0)98450-00000", "MRN 17",
     "mrn-17", "demo@example.org", "Démo", "Demo Pätient", "demo  patient"],
)  # fmt: skip
def test_staff_find_what_the_owner_finds_through_the_api(
    admin: AdminClient, as_alice: LoggedInClient, alice: User, bob: User, text: str
) -> None:
    mine = make_patient(
        alice, name="Demo Patient", phone="+91 98450 00000", identifier="MRN-17", email="demo@example.org"
    )
    make_patient(bob, name="Somebody Else", phone="12345678", identifier="X-1")
    assert [one["id"] for one in as_alice.get(f"/api/patients/?search={quote(text)}").json()] == [mine.pk]
    assert found(admin, f"{PATIENTS}?q={quote(text)}") == [mine.pk]
    assert found(admin, f"{PATIENTS}?q={quote(text)}&owner=alice") == [mine.pk]
    assert found(admin, f"{PATIENTS}?q={quote(text)}&owner=bob") == []


def test_the_best_matches_of_all_owners_come_first_and_then_the_newest(
    admin: AdminClient, alice: User, bob: User
) -> None:
    names = ["Anna Rao", "Annamaria Rao", "Anne Rao", "Anna Rao", "Annamaria Rao"]
    rows = [make_patient((alice, bob)[place % 2], name=name).pk for place, name in enumerate(names)]
    assert found(admin, f"{PATIENTS}?q=anna") == [rows[3], rows[0], rows[4], rows[1], rows[2]]


@pytest.mark.parametrize("hidden", [[False], [True], [False, True]])
def test_a_search_across_owners_gives_what_searches_of_each_owner_give_together(
    make_user: Any, hidden: list[bool]
) -> None:
    chance = random.Random(7)  # noqa: S311
    owners = [make_user(f"owner{number}") for number in range(4)]
    for _ in range(60):
        patient = make_patient(chance.choice(owners), name=" ".join(chance.sample(PEOPLE, 2))[:100])
        if chance.random() < 0.3:
            Patient.objects.filter(pk=patient.pk).end()
    rows = Patient.objects.all()
    for patient in rows[:12]:
        for text in (patient.name, patient.name[:3], patient.name.split()[0], patient.name[1:]):
            across = StaffHits(rows, PATIENT_SEARCH, text, owner=None, hidden=hidden)
            each = [StaffHits(rows, PATIENT_SEARCH, text, owner=one.pk, hidden=hidden) for one in owners]
            together = {key: rank for hits in each for key, rank in hits.look_up(PageOfHits(None, 100)).items()}
            exact = {key for key, rank in together.items() if rank == 0}
            result = across.look_up(PageOfHits(None, 100))
            assert {key for key, rank in result.items() if rank == 0} == exact, text
            # Of one owner the most similar words are other ones than of all, but never fewer equal ones.
            assert exact <= result.keys() <= {row.pk for row in rows}
            assert [*result] == sorted(result, key=lambda key: (result[key], -key))


def test_pages_of_a_search_across_owners_repeat_nothing_and_leave_nothing_out(alice: User, bob: User) -> None:
    names = [f"Anna{'maria' * (number % 3 == 0)} Rao" for number in range(20)]
    keys = [make_patient((alice, bob)[place % 2], name=name).pk for place, name in enumerate(names)]
    every = Patient.objects.all()
    for hits in (
        StaffHits(every, PATIENT_SEARCH, "anna", owner=None),
        NarrowedHits(every, every, PATIENT_SEARCH, "anna", owner=None),
    ):
        seen: list[int] = []
        cursor = None
        while rows := hits.fetch(cursor, 6):
            seen += [row.pk for row in rows]
            cursor = hits.cursor(rows[-1], back=False)
        assert sorted(seen) == keys
        [row] = [row for row in hits.fetch(None, 100) if row.pk == seen[6]]
        back = hits.fetch(hits.cursor(row, back=True), 6)
        assert [row.pk for row in back] == seen[5::-1]


def test_deleted_and_merged_patients_are_found_in_their_states(admin: AdminClient, alice: User) -> None:
    deleted, survivor, duplicate, other = [
        make_patient(alice, name=name) for name in ("Demo Gone", "Asha Kept", "Demo Twice", "Demo Other")
    ]
    Patient.objects.filter(pk=deleted.pk).end()
    merge(survivor, duplicate)
    for query, expected in {
        "q=demo": [other, survivor],
        "q=demo&state=deleted": [deleted],
        "q=demo&state=merged": [duplicate],
        "q=demo+twiec&state=merged": [duplicate],
        "q=asha&state=merged": [],
        "q=demo+other&state=merged": [],
        "q=demo&state=merged&owner=bob": [],
        "q=demo&state=all": [other, survivor, deleted],
    }.items():
        assert sorted(found(admin, f"{PATIENTS}?{query}")) == sorted(one.pk for one in expected), query


def test_assignments_are_found_by_patient_and_by_doctor(admin: AdminClient, alice: User, bob: User) -> None:
    patient, other = make_patient(alice, name="Zoë Łukasiewicz"), make_patient(bob, name="Ann Other")
    doctor, another = make_doctor(alice, name="Dr. Meera Rao"), make_doctor(alice, name="Dr. Ivan Petrov")
    first, second = make_mapping(patient, doctor), make_mapping(other, another)
    for query, expected in {
        "q=zoe+lukasiewicz": [first],
        "q=zoe&owner=bob": [],
        "q=mera": [first],
        "q=petrov": [second],
        "q=dr": [second, first],
        "q=nobody+at+all": [],
    }.items():
        assert found(admin, f"{MAPPINGS}?{query}") == [one.pk for one in expected], query


def test_doctors_and_their_assignments_are_found_among_those_of_one_owner(
    admin: AdminClient, alice: User, bob: User
) -> None:
    mine, yours = (make_doctor(owner, name="Dr. Meera Rao") for owner in (alice, bob))
    theirs = make_mapping(make_patient(bob, name="Ann Other"), mine)
    doctors = "/admin/doctors/doctor/"
    queries: dict[str, list[Any]] = {
        f"{doctors}?q=meera&owner=alice": [mine],
        f"{doctors}?q=mera&owner=BOB&state=all": [yours],
        f"{doctors}?q=meera&owner=nobody": [],
        f"{doctors}?owner=nobody&state=all&created_from=2026-01-01": [],
        f"{doctors}?q=zzzzzz&state=all": [],
        f"{PATIENTS}?q=zzzzzz&state=all": [],
        f"{doctors}?q=meera": [yours, mine],
        f"{MAPPINGS}?q=meera&owner=bob": [theirs],
        f"{MAPPINGS}?q=meera&owner=alice": [],
    }
    for query, expected in queries.items():
        assert found(admin, query) == [one.pk for one in expected], query


def test_suggestions_are_the_best_matches_with_what_tells_people_apart(admin: AdminClient, alice: User) -> None:
    for _ in range(25):
        make_patient(alice, name="Demo Patient")
    make_patient(alice, name="Demo Patient", birth_date=datetime.date(1990, 2, 1), identifier="A-1")
    gone = make_patient(alice, name="Demo Patient")
    Patient.objects.filter(pk=gone.pk).end()
    path = "/admin/autocomplete/?app_label=mappings&model_name=mapping&field_name=patient&term="
    answer = admin.get(f"{path}demo+pateint").json()
    assert (answer["results"][0]["text"], len(answer["results"])) == ("Demo Patient, 1990-02-01, A-1", 20)
    assert answer["pagination"] == {"more": False}
    assert len(admin.get(path).json()["results"]) == 20


def test_the_words_of_all_owners_follow_their_vocabularies(alice: User, bob: User) -> None:
    def words() -> list[str]:
        return sorted(KNOWN_WORDS.objects.values_list("word", flat=True))

    mine, yours = make_patient(alice, name="Asha Rao"), make_patient(bob, name="Asha Nair")
    assert words() == ["asha", "nair", "rao"]
    Patient.objects.filter(pk=yours.pk).delete()
    assert words() == ["asha", "rao"]
    Patient.objects.filter(pk=mine.pk).delete()
    assert words() == []


@pytest.mark.parametrize("relation", ["patients_patientword_near_all('x')", "patients_patientknownword"])
def test_the_api_cannot_read_the_words_of_all_owners(staff: User, relation: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL ROLE healthcare_api")
        with pytest.raises(ProgrammingError, match="permission denied"):
            cursor.execute(f"SELECT * FROM {relation}")  # noqa: S608
        transaction.set_rollback(True)


def test_the_api_finds_no_word_of_another_owner(alice: User, bob: User) -> None:
    make_patient(bob, name="Zebulon")
    found = []
    for role in ("healthcare_api", "none"):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL ROLE {role}; SELECT set_config('app.user_id', '{alice.pk}', true)")
            cursor.execute("SELECT count(*) FROM patients_patientword_near_of('zebulon', %s)", [bob.pk])
            found += cursor.fetchone()
    assert found == [0, 1]
