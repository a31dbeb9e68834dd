"""/history/ of a record, and `as_of`, over HTTP."""

import datetime
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from healthcare.tests.planner import rewrite_and_analyze
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.models import Patient, PatientEvent
from patients.tests.factories import make_patient


def now() -> str:
    """A moment between what was done and what will be done."""
    return timezone.now().isoformat().replace("+00:00", "Z")


def statements(queries: CaptureQueriesContext) -> list[str]:
    return [query["sql"] for query in queries if not query["sql"].startswith(("SAVEPOINT", "RELEASE", "ROLLBACK"))]


def test_the_history_lists_each_change_the_latest_first(as_alice: LoggedInClient, alice: User) -> None:
    created = as_alice.post("/api/patients/", {"name": "Ana", "birth_date": "1990-02-28"})
    path = f"/api/patients/{created.json()['id']}/"
    changed = as_alice.patch(path, {"name": "Anna", "birth_date": None}, headers={"X-Change-Reason": "typing error"})
    as_alice.delete(path)
    Patient.objects.update(deleted_at=None)
    history = as_alice.get(f"{path}history/").json()
    assert [(row["action"], row["version"], row["actor"], row["reason"]) for row in history] == [
        ("restore", 4, None, None),
        ("delete", 3, alice.pk, None),
        ("update", 2, alice.pk, "typing error"),
        ("create", 1, alice.pk, None),
    ]
    assert history[2] == {
        "version": 2,
        "at": history[2]["at"],
        "action": "update",
        "actor": alice.pk,
        "actor_name": "Alice",
        "request_id": changed["X-Request-Id"],
        "reason": "typing error",
        "changes": {"name": ["Ana", "Anna"], "birth_date": ["1990-02-28", None], "birth_year": [1990, None]},
    }
    assert history[3]["changes"] == {
        "name": [None, "Ana"],
        "gender": [None, "U"],
        "birth_date": [None, "1990-02-28"],
        "birth_year": [None, 1990],
    }
    assert history[0]["changes"]["deleted_at"] == history[1]["changes"]["deleted_at"][::-1]


def test_changes_across_a_page_boundary_of_a_history_are_complete(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice, name="N0")
    for number in range(1, 6):
        as_alice.patch(f"/api/patients/{patient.pk}/", {"name": f"N{number}"})
    url, changes = f"/api/patients/{patient.pk}/history/?limit=2", []
    while url:
        answer = as_alice.get(url)
        changes += [row["changes"]["name"] for row in answer.json()]
        url = next((link[1:].split(">")[0] for link in answer.get("Link", "").split(", ") if 'rel="next"' in link), "")
    assert changes == [[f"N{number - 1}" if number else None, f"N{number}"] for number in range(5, -1, -1)]


def test_assignments_and_doctors_have_a_history(as_alice: LoggedInClient, anonymous: Any, alice: User) -> None:
    patient, doctor = make_patient(alice), make_doctor(alice)
    mapping = as_alice.post("/api/mappings/", {"patient": patient.pk, "doctor": doctor.pk}).json()["id"]
    (row,) = as_alice.get(f"/api/mappings/{mapping}/history/").json()
    assert (row["action"], row["changes"]["patient"], row["changes"]["doctor"]) == (
        "create",
        [None, patient.pk],
        [None, doctor.pk],
    )
    assert [row["action"] for row in as_alice.get(f"/api/doctors/{doctor.pk}/history/").json()] == ["create"]
    assert anonymous.get(f"/api/doctors/{doctor.pk}/history/").status_code == 401


def test_alices_history_is_404_for_bob(as_bob: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    mapping, at = make_mapping(patient, make_doctor(alice)), now()
    for path in (
        f"/api/patients/{patient.pk}/history/",
        f"/api/patients/{patient.pk}/access-log/",
        f"/api/mappings/{mapping.pk}/history/",
        f"/api/patients/{patient.pk}/?as_of={at}",
        f"/api/patients/{patient.pk}/doctors/?as_of={at}",
        f"/api/mappings/{patient.pk}/?as_of={at}",
    ):
        answer, missing = as_bob.get(path), as_bob.get(path.replace(f"/{patient.pk}/", "/999999/"))
        assert answer.status_code == 404
        assert {**answer.json(), "request_id": ""} == {**missing.json(), "request_id": ""}
    assert as_bob.get(f"/api/patients/?as_of={at}").json() == []
    assert as_bob.get(f"/api/mappings/?as_of={at}").json() == []


def test_as_of_returns_what_the_api_answered_then(as_alice: LoggedInClient) -> None:
    before = now()
    created = as_alice.post("/api/patients/", {"name": "Ana"}).json()
    path, then = f"/api/patients/{created['id']}/", now()
    as_alice.patch(path, {"name": "Anna"})
    later = now()
    as_alice.delete(path)
    assert as_alice.get(path).status_code == 404
    assert as_alice.get(f"{path}?as_of={then}").json() == created
    assert as_alice.get(f"{path}?as_of={later}").json()["name"] == "Anna"
    for absent in (before, now()):
        assert as_alice.get(f"{path}?as_of={absent}").status_code == 404
    assert [row["name"] for row in as_alice.get(f"/api/patients/?as_of={then}").json()] == ["Ana"]
    assert (
        as_alice.get(f"/api/patients/?as_of={before}").json()
        == as_alice.get(f"/api/patients/?as_of={now()}").json()
        == []
    )


def test_as_of_derives_the_age_on_that_day(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice, birth_date=datetime.date(1990, 7, 1))
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE patients_patientevent DISABLE TRIGGER USER")
        cursor.execute("UPDATE patients_patientevent SET pgh_created_at = '2020-01-01'")
        cursor.execute("ALTER TABLE patients_patientevent ENABLE TRIGGER USER")
    path = f"/api/patients/{patient.pk}/"
    for at, age in (("2020-06-30T23:59:59Z", 29), ("2020-07-01T00:00:00Z", 30), ("2020-07-01T00:00:00%2B02:00", 29)):
        assert as_alice.get(f"{path}?as_of={at}").json()["age"] == age


def test_as_of_lists_the_doctors_of_that_time(as_alice: LoggedInClient, alice: User) -> None:
    patient, first, second = make_patient(alice), make_doctor(alice, name="First"), make_doctor(alice, name="Second")
    mapping = as_alice.post("/api/mappings/", {"patient": patient.pk, "doctor": first.pk}).json()
    paths = (f"/api/mappings/{patient.pk}/", f"/api/patients/{patient.pk}/doctors/")
    answered, assigned, then = as_alice.get(paths[0]).json(), as_alice.get("/api/mappings/").json(), now()
    as_alice.delete(f"/api/mappings/{mapping['id']}/")
    as_alice.patch(f"/api/doctors/{first.pk}/", {"name": "Renamed"})
    as_alice.post("/api/mappings/", {"patient": patient.pk, "doctor": second.pk})
    as_alice.delete(f"/api/patients/{patient.pk}/")
    for path in paths:
        assert as_alice.get(f"{path}?as_of={then}").json() == answered
        assert as_alice.get(f"{path}?as_of={now()}").status_code == 404
    assert as_alice.get(f"/api/mappings/?as_of={then}").json() == assigned
    assert as_alice.get(f"/api/mappings/?as_of={now()}").json() == []
    assert as_alice.get(f"/api/doctors/{first.pk}/?as_of={then}").json()["name"] == "First"


def test_a_list_as_of_a_time_is_paged_by_the_ids_of_its_records(as_alice: LoggedInClient, alice: User) -> None:
    patients = [make_patient(alice, name=f"P{number}") for number in range(5)]
    Patient.objects.filter(pk=patients[0].pk).update(address="the oldest has the newest event")
    url, seen = f"/api/patients/?limit=2&as_of={now()}&count=true", []
    while url:
        answer = as_alice.get(url)
        seen.append([row["id"] for row in answer.json()])
        assert answer["X-Total-Count"] == "5"
        url = next((link[1:].split(">")[0] for link in answer.get("Link", "").split(", ") if 'rel="next"' in link), "")
    keys = [patient.pk for patient in reversed(patients)]
    assert seen == [keys[:2], keys[2:4], keys[4:]]


@pytest.mark.parametrize(
    "at", ["", "yesterday", "2026-13-01T00:00:00Z", "2026-03-03", "2999-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"]
)
def test_an_invalid_or_future_time_is_refused(as_alice: LoggedInClient, at: str) -> None:
    answer = as_alice.get(f"/api/patients/?as_of={at}")
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/as_of"]


def test_as_of_is_refused_on_writes(as_alice: LoggedInClient, alice: User) -> None:
    path = f"/api/patients/{make_patient(alice).pk}/?as_of={now()}"
    assert as_alice.patch(path, {"name": "X"}).status_code == as_alice.delete(path).status_code == 400
    assert Patient.objects.get().name == "John Smith"


def test_as_of_a_time_before_every_record_lists_nothing(as_alice: LoggedInClient) -> None:
    for at in ("0001-01-01T00:00:00Z", "0001-01-02T00:00:00%2B14:00"):
        assert as_alice.get(f"/api/patients/?as_of={at}").json() == []


COSTS = {
    "/api/patients/{patient}/history/": ["session and user", "the patient", "the page", "what was before", "access"],
    "/api/patients/{patient}/access-log/": ["session and user", "the patient", "the page", "access"],
    "/api/patients/{patient}/?as_of={at}": ["session and user", "the kept time", "the patient then", "access"],
    "/api/patients/?as_of={at}": ["session and user", "the kept time", "the page", "access"],
    "/api/mappings/?as_of={at}": ["session and user", "the kept time", "the page", "access"],
    "/api/patients/{patient}/doctors/?as_of={at}": [
        "session and user", "the kept time", "the patient then", "the page", "the doctors then", "access",
    ],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 30])
@pytest.mark.parametrize("path", COSTS)
def test_the_query_count_as_of_a_time_does_not_grow_with_the_rows(
    as_alice: LoggedInClient, alice: User, path: str, rows: int, settings: Any
) -> None:
    settings.FAST_PATH = "off"
    patient = make_patient(alice)
    for number in range(rows):
        make_mapping(patient, make_doctor(alice))
        make_patient(alice)
        Patient.objects.filter(pk=patient.pk).update(name=f"N{number}")
    with CaptureQueriesContext(connection) as queries:
        assert as_alice.get(path.format(patient=patient.pk, at=now())).status_code == 200
    assert len(statements(queries)) == len(COSTS[path]), statements(queries)


def test_a_page_as_of_a_time_is_read_from_the_index(alice: User, bob: User) -> None:
    for owner in (alice, bob):
        Patient.objects.bulk_create(Patient(created_by=owner, name="X") for _ in range(1000))
    for number in range(3):
        Patient.objects.update(address=str(number))
    Mapping.objects.bulk_create(
        Mapping(created_by=alice, patient=patient, doctor=doctor)
        for doctor in [Doctor.objects.create(created_by=alice, name="D")]
        for patient in Patient.objects.owned_by(alice)
    )
    rewrite_and_analyze("patients_patientevent")
    plan = PatientEvent.objects.owned_by(alice).as_of(timezone.now()).order_by("-id")[:101].explain()
    assert "patient_then_owner" in plan
    assert "Seq Scan" not in plan, plan


@pytest.mark.parametrize("path", ["/api/patients/", "/api/doctors/"])
def test_the_time_of_a_state_finds_that_state(as_alice: LoggedInClient, path: str) -> None:
    first = as_alice.post(path, {"name": "First"}).json()
    second = as_alice.patch(f"{path}{first['id']}/", {"name": "Second"}).json()
    third = as_alice.patch(f"{path}{first['id']}/", {"name": "Third"}).json()
    for state, at in (
        (first, first["created_at"]),
        (first, first["updated_at"]),
        (second, second["updated_at"]),
        (third, third["updated_at"]),
    ):
        assert as_alice.get(f"{path}{first['id']}/?as_of={at}").json() == state
        assert as_alice.get(f"{path}?as_of={at}").json() == [state]


def test_the_time_of_an_assignments_state_finds_that_state(as_alice: LoggedInClient, alice: User) -> None:
    body = {"patient": make_patient(alice).pk, "doctor": make_doctor(alice).pk}
    first = as_alice.post("/api/mappings/", body).json()
    second = as_alice.patch(f"/api/mappings/{first['id']}/", {"role": "GP"}).json()
    for state in (first, second):
        at = state["updated_at"]
        assert as_alice.get(f"/api/assignments/{first['id']}/?as_of={at}").json() == state
        assert as_alice.get(f"/api/mappings/?as_of={at}").json() == [state]


@pytest.mark.parametrize("path", ["/api/patients/", "/api/doctors/"])
def test_as_of_cannot_be_combined_with_deleted(as_alice: LoggedInClient, path: str) -> None:
    answer = as_alice.get(f"{path}?as_of={now()}&deleted=true")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/deleted"]
