"""Triggers maintain the terms of every record; erasure removes its words; callers read only their own."""

import pytest
from django.apps import apps
from django.db import DatabaseError, connection, transaction

from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.rls.context import enter
from healthcare.search.tests.test_search import names
from patients.erasure import erase
from patients.models import Patient
from patients.tests.factories import make_patient

TERMS, WORDS = apps.get_model("patients.PatientTerm"), apps.get_model("patients.PatientWord")


def terms(patient: Patient) -> set[str]:
    return set(TERMS.objects.filter(record=patient.pk).values_list("term", flat=True))


def words(owner: User) -> list[str]:
    return sorted(WORDS.objects.filter(owner=owner.pk).values_list("word", flat=True))


def test_a_record_is_found_by_its_words_their_pairs_and_its_numbers(alice: User) -> None:
    patient = make_patient(alice, name="Asha  NAIR", identifier="M-1", phone="080 5550", email="A@Example.org")
    assert terms(patient) == {"asha", "nair", "asha nair", "id:m1", "tel:055508", "mail:a@example.org"}
    assert words(alice) == ["asha", "nair"]


def test_a_word_of_the_vocabulary_stands_once(alice: User) -> None:
    Patient.objects.bulk_create(Patient(created_by=alice, name="Asha Nair") for _ in range(3))
    make_patient(alice, name="Asha Rao")
    assert words(alice) == ["asha", "nair", "rao"]


def test_changes_past_the_api_are_followed_too(as_alice: LoggedInClient, alice: User) -> None:
    first, second = make_patient(alice, name="Asha"), make_patient(alice, name="Meera")
    Patient.objects.filter(pk__in=[first.pk, second.pk]).update(name="Kamala")
    assert [*names(as_alice, "kamala"), *names(as_alice, "asha"), *names(as_alice, "meera")] == ["Kamala", "Kamala"]
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE patients_patient SET name = name || ' Devi', phone = '5550100' WHERE id = %s", [first.pk]
        )
    assert names(as_alice, "devi kamala") == names(as_alice, "555-0100") == ["Kamala Devi"]


def test_what_changes_nothing_that_is_searched_writes_no_term(alice: User) -> None:
    patient = make_patient(alice)
    with connection.cursor() as cursor:
        cursor.execute("SELECT xmin::text FROM patients_patientterm WHERE record = %s", [patient.pk])
        before = cursor.fetchall()
        with transaction.atomic():
            Patient.objects.filter(pk=patient.pk).update(address="Mysuru")
        cursor.execute("SELECT xmin::text FROM patients_patientterm WHERE record = %s", [patient.pk])
        assert cursor.fetchall() == before


def test_an_erased_person_leaves_no_term_and_no_word(alice: User, bob: User) -> None:
    patient, other = make_patient(alice, name="Zebulon Smith"), make_patient(alice, name="John Smith")
    bobs = make_patient(bob, name="Zebulon Quux")
    Patient.objects.filter(pk=patient.pk).update(name="Xanthippe Smith")
    assert words(alice) == ["john", "smith", "xanthippe", "zebulon"]
    receipt = erase(patient.pk, reason="asked for", account="tests")
    assert (terms(patient), terms(other)) == (set(), {"john", "smith", "john smith"})
    assert words(alice) == ["john", "smith"]
    assert words(bob) == ["quux", "zebulon"]
    assert terms(bobs)
    assert not any("term" in table or "word" in table for table in receipt.counts)


def rows(statement: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return int(cursor.fetchone()[0])


def test_a_caller_reads_terms_and_words_of_their_own_alone(alice: User, bob: User) -> None:
    make_patient(alice, name="Zebulon Quux")
    make_doctor(alice, name="Meera")
    for user, seen in ((alice.pk, (3, 2, 2)), (bob.pk, (0, 0, 0)), (None, (0, 0, 0))):
        with transaction.atomic():
            enter(user)
            found = (
                rows("SELECT count(*) FROM patients_patientterm"),
                rows("SELECT count(*) FROM patients_patientword"),
                rows("SELECT count(*) FROM patients_patientword_near('zebulon quux') WHERE place > 0"),
            )
            assert found == seen
            assert rows("SELECT count(*) FROM doctors_doctorterm") == 1
            assert rows("SELECT count(*) FROM doctors_doctorword_near('mera')") == 1
            transaction.set_rollback(True)


@pytest.mark.parametrize("table", ["patients_patientterm", "patients_patientword", "doctors_doctorterm"])
def test_a_caller_writes_none(alice: User, table: str) -> None:
    make_patient(alice)
    for statement in ("DELETE FROM {}", "UPDATE {} SET owner = owner", "INSERT INTO {} (owner) VALUES (1)"):
        with transaction.atomic():
            enter(alice.pk)
            with connection.cursor() as cursor, pytest.raises(DatabaseError, match="permission"):
                cursor.execute(statement.format(table))
            transaction.set_rollback(True)


def test_a_temporary_table_does_not_stand_in_for_the_terms(alice: User, bob: User) -> None:
    make_patient(bob, name="Zebulon")
    with transaction.atomic():
        with connection.cursor() as cursor:  # as the owner: the role of API requests may create none
            cursor.execute("CREATE TEMP TABLE patients_patientword (owner bigint, word text) ON COMMIT DROP")
            cursor.execute("INSERT INTO patients_patientword VALUES (%s, 'zebulon')", [alice.pk])
        enter(alice.pk)
        assert rows("SELECT count(*) FROM pg_catalog.pg_class WHERE relname = 'patients_patientword'") == 2
        assert rows("SELECT count(*) FROM public.patients_patientword_near('zebulon')") == 0
        transaction.set_rollback(True)


def test_a_change_writes_only_the_terms_that_differ(alice: User) -> None:
    patient = make_patient(alice, name="Asha Nair", identifier="M-1", phone="080 5550")
    before = dict(TERMS.objects.filter(record=patient.pk).extra(select={"at": "ctid::text"}).values_list("term", "at"))  # noqa: S610
    Patient.objects.filter(pk=patient.pk).update(phone="080 5551")
    after = dict(TERMS.objects.filter(record=patient.pk).extra(select={"at": "ctid::text"}).values_list("term", "at"))  # noqa: S610
    assert after.keys() - before.keys() == {"tel:155508"}
    assert before.keys() - after.keys() == {"tel:055508"}
    assert all(after[term] == before[term] for term in after.keys() & before.keys())


def test_a_merged_record_is_found_as_the_one_that_took_its_place(as_alice: LoggedInClient, alice: User) -> None:
    names_of = ["Asha Nair", "Aasha Nayar", "A. Nair-Rao"]
    survivor, second, third = (make_patient(alice, name=name, identifier=f"M-{name[:2]}") for name in names_of)

    def merge(into: Patient, duplicate: Patient, action: str = "merge") -> None:
        answer = as_alice.post(f"/api/patients/{into.pk}/{action}/", {"duplicate": duplicate.pk})
        assert answer.status_code == 200, answer.content

    merge(second, third)
    assert names(as_alice, "rao") == names(as_alice, "M-A.") == ["Aasha Nayar"]
    merge(survivor, second)
    for asked in ("nayar", "rao", "M-Aa", "M-A.", "M-As", "asha nair"):
        assert names(as_alice, asked) == ["Asha Nair"], asked
    assert names(as_alice, "nayar", deleted="true") == []
    as_alice.delete(f"/api/patients/{survivor.pk}/")
    assert (names(as_alice, "rao"), names(as_alice, "rao", deleted="true")) == ([], ["Asha Nair"])
    as_alice.post(f"/api/patients/{survivor.pk}/restore/")
    merge(survivor, second, "unmerge")
    assert (names(as_alice, "rao"), names(as_alice, "M-As")) == (["Aasha Nayar"], ["Asha Nair"])
    merge(second, third, "unmerge")
    assert [names(as_alice, asked) for asked in ("M-As", "M-Aa", "M-A.")] == [[name] for name in names_of]


def test_erasing_a_merged_patient_removes_its_words(as_alice: LoggedInClient, alice: User) -> None:
    survivor, duplicate = make_patient(alice, name="Asha"), make_patient(alice, name="Zebulon")
    as_alice.post(f"/api/patients/{survivor.pk}/merge/", {"duplicate": duplicate.pk})
    assert words(alice) == ["asha", "zebulon"]
    erase(survivor.pk, reason="asked for", account="tests")
    assert (words(alice), TERMS.objects.count()) == ([], 0)
