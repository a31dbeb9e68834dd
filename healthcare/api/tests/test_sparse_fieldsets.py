"""`?fields=`, `?include=` and `?ordering=`."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from audit.models import AccessLog
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.api.tests.test_pagination import ids, links
from healthcare.tests.planner import rewrite_and_analyze
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.models import Patient
from patients.tests.factories import make_patient


def pointers(answer: Any) -> list[str]:
    assert answer.status_code == 400
    return [error["pointer"] for error in answer.json()["errors"]]


def test_fields_selects_the_fields_of_the_answer(as_alice: LoggedInClient, alice: User) -> None:
    patient, doctor = make_patient(alice), make_doctor(alice)
    mapping = make_mapping(patient, doctor)
    assert as_alice.get("/api/patients/?fields=id,name").json() == [{"id": patient.pk, "name": "John Smith"}]
    assert as_alice.get(f"/api/patients/{patient.pk}/?fields=name").json() == {"name": "John Smith"}
    assert as_alice.get("/api/doctors/?fields=id").json() == [{"id": doctor.pk}]
    assert as_alice.get("/api/mappings/?fields=id,doctor").json() == [{"id": mapping.pk, "doctor": doctor.pk}]


@pytest.mark.parametrize("value", ["", "id,", "id,id", "nme", "id;name", "doctors.name", "created_by__password", "\0"])
def test_an_unknown_name_in_fields_is_a_400(as_alice: LoggedInClient, value: str) -> None:
    for path in ("/api/patients/", "/api/mappings/", "/api/doctors/"):
        assert pointers(as_alice.get(path, {"fields": value})) == ["/fields"]


def test_include_adds_the_doctors_to_each_patient(as_alice: LoggedInClient, alice: User) -> None:
    patient, lonely = make_patient(alice), make_patient(alice)
    first, second, past = (make_mapping(patient, make_doctor(alice)) for _ in range(3))
    Mapping.objects.filter(pk=past.pk).end()
    shown = as_alice.get(f"/api/patients/{patient.pk}/doctors/").json()
    assert [doctor["mapping"] for doctor in shown] == [second.pk, first.pk]
    plain = as_alice.get("/api/patients/").json()
    assert [row["id"] for row in plain] == [lonely.pk, patient.pk]
    included = as_alice.get("/api/patients/?include=doctors").json()
    assert included == [plain[0] | {"doctors": []}, plain[1] | {"doctors": shown}]
    assert as_alice.get(f"/api/patients/{patient.pk}/?include=doctors").json() == plain[1] | {"doctors": shown}
    few = as_alice.get("/api/patients/?include=doctors&fields=id").json()
    assert few == [{"id": lonely.pk, "doctors": []}, {"id": patient.pk, "doctors": shown}]


def test_an_included_doctor_changes_the_entity_tag(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    path = f"/api/patients/{patient.pk}/?include=doctors"
    tag = as_alice.get(path).headers["ETag"]
    assert as_alice.get(path, HTTP_IF_NONE_MATCH=tag).status_code == 304
    make_mapping(patient, make_doctor(alice))
    assert as_alice.get(path, HTTP_IF_NONE_MATCH=tag).status_code == 200


@pytest.mark.parametrize("value", ["", "doctor", "doctors,mappings", "created_by"])
def test_an_unknown_name_in_include_is_a_400(as_alice: LoggedInClient, value: str) -> None:
    assert pointers(as_alice.get("/api/patients/", {"include": value})) == ["/include"]


def test_doctors_assigned_by_another_user_are_not_included(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User
) -> None:
    patient = make_patient(alice)
    make_mapping(patient, make_doctor(alice))
    assert as_bob.get("/api/patients/?include=doctors").json() == []
    assert as_bob.get(f"/api/patients/{patient.pk}/?include=doctors").status_code == 404


def test_a_request_with_include_is_recorded_in_the_access_log(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    as_alice.get("/api/patients/?include=doctors&fields=name")
    read = AccessLog.objects.latest("id")
    assert (read.actor, read.action, read.patient_ids) == (alice.pk, "patient.list", [patient.pk])


QUERIES = {
    "/api/patients/?include=doctors": ["session and user", "the page", "assignments and doctors", "the access log"],
    "/api/patients/?ordering=name": ["session and user", "the page", "the access log"],
    "/api/patients/?ordering=-updated_at&fields=id": ["session and user", "the page", "the access log"],
    "/api/patients/?gender=U&age_max=150": ["session and user", "the page", "the access log"],
    "/api/patients/?doctor={doctor}": ["session and user", "the doctor", "the page", "the access log"],
    "/api/mappings/?doctor={doctor}&role=GP": ["session and user", "the doctor", "the page", "the access log"],
    "/api/mappings/?ordering=started_at": ["session and user", "the page", "the access log"],
    "/api/doctors/?hospital=General": ["session and user", "the page"],
}


@pytest.mark.parametrize("rows", [10, 100])
@pytest.mark.parametrize("path", QUERIES)
def test_the_number_of_queries_does_not_depend_on_the_length_of_the_list(
    as_alice: LoggedInClient, alice: User, settings: Any, path: str, rows: int
) -> None:
    doctor = make_doctor(alice, hospital="General")
    for number in range(rows):
        patient = make_patient(alice, name=f"P{number}", gender="U", birth_year=1990)
        make_mapping(patient, doctor, role="GP")
        make_doctor(alice, hospital="General") if number else None
    for mode, expected in (("off", QUERIES[path]), ("on", ["everything in one"])):
        settings.FAST_PATH = mode
        with CaptureQueriesContext(connection) as queries:
            assert len(as_alice.get(path.format(doctor=doctor.pk)).json()) == rows
        statements = [query["sql"] for query in queries if not query["sql"].startswith(("SAVEPOINT", "RELEASE"))]
        assert len(statements) == len(expected), statements


@pytest.mark.parametrize("ordering", ["name", "-name", "updated_at", "-created_at"])
def test_an_ordered_list_is_paged_in_both_directions(as_alice: LoggedInClient, alice: User, ordering: str) -> None:
    names = ["Öz", "a", "B", "b", 'quo"te, x', "王"]
    Patient.objects.bulk_create(Patient(created_by=alice, name=names[number % 6]) for number in range(23))
    expected = [row.pk for row in Patient.objects.order_by(ordering, "-pk" if ordering[0] == "-" else "pk")]
    answer = as_alice.get(f"/api/patients/?limit=4&ordering={ordering}")
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


@pytest.mark.parametrize("value", ["", "-", "--name", "phone", "name,id", "created_by", "?", "NAME"])
def test_ordering_accepts_indexed_columns_only(as_alice: LoggedInClient, value: str) -> None:
    answer = as_alice.get("/api/patients/", {"ordering": value})
    assert pointers(answer) == ["/ordering"]
    detail = "Send one of these, with a leading - for descending order: name, created_at, updated_at."
    assert answer.json()["errors"][0]["detail"] == detail


def test_a_cursor_of_another_order_is_a_400(as_alice: LoggedInClient, alice: User) -> None:
    for _ in range(2):
        make_patient(alice)
    by_name = links(as_alice.get("/api/patients/?limit=1&ordering=name"))["next"]
    plain = links(as_alice.get("/api/patients/?limit=1"))["next"]
    for target in (
        by_name.replace("=name", "=created_at"),
        by_name.replace("&ordering=name", ""),
        f"{plain}&ordering=name",
    ):
        assert pointers(as_alice.get(target)) == ["/cursor"], target


@pytest.mark.parametrize("column", ["name", "created_at", "updated_at"])
def test_every_ordering_uses_its_index_on_every_page(
    as_alice: LoggedInClient, alice: User, column: str, settings: Any
) -> None:
    settings.FAST_PATH = "off"  # its statement can be explained; healthcare/fastpath/tests/test_plans.py has the other
    Patient.objects.bulk_create(Patient(created_by=alice, name=f"P{number % 7}") for number in range(5000))
    rewrite_and_analyze("patients_patient")
    for ordering in (column, f"-{column}"):
        deep = links(as_alice.get(f"/api/patients/?limit=500&ordering={ordering}"))["next"]
        for target in (f"/api/patients/?limit=5&ordering={ordering}", deep.replace("limit=500", "limit=5")):
            with CaptureQueriesContext(connection) as queries:
                assert as_alice.get(target).status_code == 200
            (page,) = [query["sql"] for query in queries if 'FROM "patients_patient"' in query["sql"]]
            with connection.cursor() as cursor:
                cursor.execute("EXPLAIN " + page)
                plan = "\n".join(row[0] for row in cursor.fetchall())
            assert "Sort" not in plan, plan
            assert "patient_by_" in plan, plan
            assert target == deep or "ROW" in plan or "cursor" not in target, plan
