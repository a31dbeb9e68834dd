"""A deleted patient is hidden, listed for its owner, and restored with its assignments."""

import datetime
import itertools
from collections import Counter
from functools import partial

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.tests.concurrent_calls import call_concurrently, sorted_statuses
from healthcare.tests.live import LiveServer
from healthcare.tests.planner import rewrite_and_analyze
from mappings.tests.factories import make_mapping
from patients.models import Patient
from patients.tests.factories import make_patient


@pytest.fixture
def deleted(alice: User) -> Patient:
    """A patient that alice has deleted, beside one that she has not."""
    make_patient(alice, name="Kept")
    patient = make_patient(alice, name="Deleted")
    Patient.objects.filter(pk=patient.pk).end()
    return patient


def test_restore_brings_back_a_patient_unchanged(as_alice: LoggedInClient) -> None:
    created = as_alice.post("/api/patients/", {"name": "X", "age": 34, "phone": "1"}).json()
    path = f"/api/patients/{created['id']}/"
    assert as_alice.delete(path).status_code == 204
    restored = as_alice.post(f"{path}restore/")
    assert restored.status_code == 200
    assert restored.json() == created | {"version": 3, "updated_at": restored.json()["updated_at"]}
    assert restored.json()["updated_at"] > created["updated_at"]
    read = as_alice.get(path)
    assert (read.json(), read["ETag"]) == (restored.json(), restored["ETag"])
    assert as_alice.get("/api/patients/").json() == [restored.json()]


def test_restore_brings_back_the_assignments_of_the_patient(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    mapping, ended = make_mapping(patient, make_doctor(alice)), make_mapping(patient, make_doctor(alice))
    as_alice.delete(f"/api/mappings/{ended.pk}/")
    doctors, mappings = as_alice.get(f"/api/mappings/{patient.pk}/").json(), as_alice.get("/api/mappings/").json()
    assert [row["id"] for row in mappings] == [mapping.pk]
    as_alice.delete(f"/api/patients/{patient.pk}/")
    assert as_alice.get("/api/mappings/").json() == []
    as_alice.post(f"/api/patients/{patient.pk}/restore/")
    assert as_alice.get(f"/api/mappings/{patient.pk}/").json() == doctors
    assert as_alice.get("/api/mappings/").json() == mappings


def test_restoring_an_active_patient_changes_nothing(as_alice: LoggedInClient, alice: User) -> None:
    path = f"/api/patients/{make_patient(alice).pk}/"
    before = as_alice.get(path)
    for _ in range(2):
        answer = as_alice.post(f"{path}restore/")
        assert (answer.status_code, answer.json(), answer["ETag"]) == (200, before.json(), before["ETag"])


def test_deleted_true_lists_deleted_patients_only(as_alice: LoggedInClient, deleted: Patient) -> None:
    def names(query: str) -> list[str]:
        return [row["name"] for row in as_alice.get(f"/api/patients/{query}").json()]

    assert names("?deleted=true") == ["Deleted"]
    assert names("") == names("?deleted=false") == ["Kept"]
    (row,) = as_alice.get("/api/patients/?deleted=true").json()
    deleted.refresh_from_db()
    assert deleted.deleted_at is not None
    assert row["version"] == 2
    since = datetime.datetime.fromisoformat(row["updated_at"]) - deleted.deleted_at
    assert datetime.timedelta(0) <= since < datetime.timedelta(seconds=1)


def test_the_list_of_deleted_patients_is_paged_and_counted(as_alice: LoggedInClient, alice: User) -> None:
    patients = [make_patient(alice) for _ in range(5)]
    Patient.objects.filter(pk__in=[patient.pk for patient in patients[1:]]).end()
    first = as_alice.get("/api/patients/?deleted=true&limit=3&count=true")
    assert ([row["id"] for row in first.json()], first["X-Total-Count"]) == ([p.pk for p in patients[:1:-1]], "4")
    following = first["Link"].split(">")[0].strip("<")
    assert "deleted=true" in following
    assert [row["id"] for row in as_alice.get(following).json()] == [patients[1].pk]


@pytest.mark.parametrize("value", ["", "2", "yes", "true%00", "null"])
def test_deleted_takes_true_or_false_only(as_alice: LoggedInClient, value: str) -> None:
    answer = as_alice.get(f"/api/patients/?deleted={value}")
    assert answer.status_code == 400
    assert answer.json() == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "deleted: Write true or false.",
        "request_id": answer["X-Request-Id"],
        "errors": [{"pointer": "/deleted", "code": "invalid", "detail": "Write true or false."}],
        "error_count": 1,
    }


def test_a_deleted_patient_is_404_on_every_other_route(as_alice: LoggedInClient, deleted: Patient) -> None:
    path = f"/api/patients/{deleted.pk}/"
    for method in ("get", "put", "patch", "delete"):
        body = {"name": "X"} if method in {"put", "patch"} else None
        assert getattr(as_alice, method)(path, body).status_code == 404
        assert getattr(as_alice, method)(f"{path}?deleted=true", body).status_code == 400  # of the list alone
    assert as_alice.get(f"{path}doctors/").status_code == 404


def test_bob_neither_lists_nor_restores_alices_patient(as_bob: LoggedInClient, deleted: Patient) -> None:
    assert as_bob.get("/api/patients/?deleted=true").json() == []
    answers = [as_bob.post(f"/api/patients/{number}/restore/") for number in (deleted.pk, 2**40)]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert {**answers[0].json(), "request_id": ""} == {**answers[1].json(), "request_id": ""}
    assert not Patient.objects.active().filter(pk=deleted.pk).exists()


def test_an_anonymous_caller_neither_lists_nor_restores(anonymous: APIClient, deleted: Patient) -> None:
    assert anonymous.get("/api/patients/?deleted=true").status_code == 401
    assert anonymous.post(f"/api/patients/{deleted.pk}/restore/").status_code == 401


def test_restore_honours_if_match(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    path = f"/api/patients/{patient.pk}/"
    tag = as_alice.get(path)["ETag"]
    as_alice.delete(path, headers={"If-Match": tag})
    assert as_alice.post(f"{path}restore/", headers={"If-Match": tag}).status_code == 412
    assert not Patient.objects.active().exists()
    restored = as_alice.post(f"{path}restore/", headers={"If-Match": "*"})
    assert (restored.status_code, restored.json()["version"]) == (200, 3)
    assert as_alice.post(f"{path}restore/", headers={"If-Match": restored["ETag"]}).status_code == 200


def test_a_restore_takes_these_queries(as_alice: LoggedInClient, deleted: Patient) -> None:
    named = [
        "session and user of the token",
        "the patient, locked",
        "the update",
        "the patient as it is now",
        "who read",
    ]
    with CaptureQueriesContext(connection) as queries:
        assert as_alice.post(f"/api/patients/{deleted.pk}/restore/").status_code == 200
    statements = [query["sql"] for query in queries if not query["sql"].startswith(("SAVEPOINT", "RELEASE"))]
    assert len(statements) == len(named), statements


def test_the_list_of_deleted_records_uses_its_own_index(alice: User, bob: User) -> None:
    Patient.objects.bulk_create(Patient(created_by=alice, name="kept") for _ in range(2000))
    Patient.objects.bulk_create(Patient(created_by=bob, name="other") for _ in range(2000))
    Patient.objects.filter(created_by=bob).end()
    rewrite_and_analyze("patients_patient")
    plan = Patient.objects.owned_by(alice).unmerged().hidden().order_by("-pk")[:101].explain()
    assert "patient_list_deleted" in plan
    assert "Sort" not in plan


def test_concurrent_deletes_changes_and_restores_never_fail(live: LiveServer) -> None:
    token = live.register()[1]["access"]
    path = f"/api/patients/{live.call('POST', '/api/patients/', {'name': 'First'}, token).json['id']}/"
    numbers, version = itertools.count(), 1
    kinds = ["restore", "delete", "change"] * 5
    for _ in range(15):
        calls = {
            "restore": lambda: live.call("POST", f"{path}restore/", None, token),
            "delete": lambda: live.call("DELETE", path, None, token),
            "change": lambda: live.call("PATCH", path, {"address": f"Number {next(numbers)}"}, token),
        }
        answers = call_concurrently(*[calls[kind] for kind in kinds])
        seen = Counter((kind, answer.status) for kind, answer in zip(kinds, answers, strict=True))
        allowed = {("restore", 200), ("delete", 204), ("delete", 404), ("change", 200), ("change", 404)}
        assert seen.keys() <= allowed
        kept = live.call("POST", f"{path}restore/", None, token).json
        version += 2 * seen["delete", 204] + seen["change", 200]  # every deletion was undone, by one restore each
        assert (kept["version"], kept["name"]) == (version, "First")


def test_concurrent_restores_make_one_change(live: LiveServer) -> None:
    token = live.register()[1]["access"]
    path = f"/api/patients/{live.call('POST', '/api/patients/', {'name': 'First'}, token).json['id']}/"
    for number in range(5):
        assert live.call("DELETE", path, None, token).status == 204
        answers = call_concurrently(*[partial(live.call, "POST", f"{path}restore/", None, token)] * 16)
        assert sorted_statuses(answers) == [200] * 16
        assert {answer.json["version"] for answer in answers} == {1 + 2 * (number + 1)}
