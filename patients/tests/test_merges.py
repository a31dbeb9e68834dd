"""Merging two records of one person: alice merges her own, bob's are none of her business."""

import datetime
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from audit.models import AccessLog
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from mappings.models import Mapping, MappingEvent
from mappings.tests.factories import make_mapping, make_past_mapping
from patients.models import Patient, PatientEvent, PatientMerge
from patients.tests.factories import make_patient

MISSING = {"pointer": "/duplicate", "code": "does_not_exist", "detail": "There is no such record."}


@pytest.fixture
def survivor(alice: User) -> Patient:
    return make_patient(alice, gender="U", phone="1")


@pytest.fixture
def duplicate(alice: User) -> Patient:
    return make_patient(
        alice, name="J. Smith", gender="M", birth_date=datetime.date(1990, 7, 1), phone="2", address="Bengaluru",
        deceased=True,
    )  # fmt: skip


def merge(client: LoggedInClient, survivor: Patient, duplicate: Patient, **headers: Any) -> Any:
    return client.post(f"/api/patients/{survivor.pk}/merge/", {"duplicate": duplicate.pk}, **headers)


def unmerge(client: LoggedInClient, survivor: Patient, duplicate: Patient, **headers: Any) -> Any:
    return client.post(f"/api/patients/{survivor.pk}/unmerge/", {"duplicate": duplicate.pk}, **headers)


def read(client: LoggedInClient, patient: Patient) -> dict[str, Any]:
    body: dict[str, Any] = client.get(f"/api/patients/{patient.pk}/").json()
    return body


def errors(answer: Any) -> list[dict[str, str]]:
    assert answer.status_code == 400, answer.content
    found: list[dict[str, str]] = answer.json()["errors"]
    return found


def test_what_the_survivor_does_not_say_is_filled_and_nothing_is_overwritten(
    as_alice: LoggedInClient, survivor: Patient, duplicate: Patient
) -> None:
    before = read(as_alice, survivor)
    answer = merge(as_alice, survivor, duplicate)
    filled = {"gender": "M", "birth_date": "1990-07-01", "birth_year": 1990, "address": "Bengaluru"}
    expected = before | filled | {name: answer.json()[name] for name in ("age", "updated_at")} | {"version": 2}
    assert (answer.status_code, answer.json()) == (200, expected)
    assert read(as_alice, survivor) == expected
    assert as_alice.get("/api/patients/").json() == [expected]


@pytest.mark.parametrize(
    ("kept", "added", "expected"),
    [
        ({}, {"birth_year": 1990}, (None, 1990)),
        ({"birth_year": 1990}, {"birth_date": datetime.date(1990, 7, 1)}, ("1990-07-01", 1990)),
        ({"birth_year": 1991}, {"birth_date": datetime.date(1990, 7, 1)}, (None, 1991)),
        ({"birth_date": datetime.date(1991, 7, 1)}, {"birth_year": 1990}, ("1991-07-01", 1991)),
    ],
)
def test_a_birth_is_filled_where_it_does_not_contradict(
    as_alice: LoggedInClient, alice: User, kept: Any, added: Any, expected: Any
) -> None:
    survivor, duplicate = make_patient(alice, **kept), make_patient(alice, **added)
    before = read(as_alice, survivor)
    body = merge(as_alice, survivor, duplicate).json()
    assert (body["birth_date"], body["birth_year"]) == expected
    after = unmerge(as_alice, survivor, duplicate).json()
    assert [after[name] for name in ("birth_date", "birth_year")] == [before[n] for n in ("birth_date", "birth_year")]


def test_the_duplicates_assignments_become_the_survivors(
    as_alice: LoggedInClient, survivor: Patient, duplicate: Patient, alice: User
) -> None:
    past, active = make_past_mapping(duplicate, make_doctor(alice)), make_mapping(duplicate, make_doctor(alice))
    primary = make_mapping(duplicate, make_doctor(alice), is_primary=True)
    merge(as_alice, survivor, duplicate)
    rows = as_alice.get("/api/mappings/").json()
    assert [(row["id"], row["patient"], row["version"]) for row in rows] == [
        (primary.pk, survivor.pk, 2),
        (active.pk, survivor.pk, 2),
    ]
    assert rows[0]["is_primary"]
    (ended,) = as_alice.get(f"/api/patients/{survivor.pk}/doctors/?active=false").json()
    assert ended["mapping"] == past.pk


def test_of_two_assignments_of_one_doctor_the_survivors_goes_on(
    as_alice: LoggedInClient, survivor: Patient, duplicate: Patient, alice: User
) -> None:
    doctor = make_doctor(alice)
    kept, other = make_mapping(survivor, doctor), make_mapping(duplicate, doctor, role="surgeon")
    merge(as_alice, survivor, duplicate)
    assert [row["id"] for row in as_alice.get("/api/mappings/").json()] == [kept.pk]
    (row,) = as_alice.get("/api/mappings/?active=false").json()
    assert (row["id"], row["patient"], row["role"]) == (other.pk, survivor.pk, "surgeon")


def test_of_two_primary_doctors_the_survivors_stays_the_one(
    as_alice: LoggedInClient, survivor: Patient, duplicate: Patient, alice: User
) -> None:
    kept = make_mapping(survivor, make_doctor(alice), is_primary=True)
    other = make_mapping(duplicate, make_doctor(alice), is_primary=True)
    merge(as_alice, survivor, duplicate)
    rows = as_alice.get("/api/mappings/").json()
    assert [(row["id"], row["is_primary"]) for row in rows] == [(other.pk, False), (kept.pk, True)]


@pytest.mark.parametrize("verb", [merge, unmerge])
def test_what_is_no_duplicate_of_the_callers_is_refused(
    as_alice: LoggedInClient, survivor: Patient, alice: User, bob: User, verb: Any
) -> None:
    deleted = make_patient(alice, deleted_at=timezone.now())
    for other in (make_patient(bob), Patient(pk=2**40), deleted, survivor):
        assert errors(verb(as_alice, survivor, other)) == [MISSING]
    assert Patient.objects.active().count() == 2


@pytest.mark.parametrize("body", [{}, {"duplicate": None}, {"duplicate": "1"}, {"duplicate": 0}, {"duplicate": 2**70}])
@pytest.mark.parametrize("verb", ["merge", "unmerge"])
def test_what_is_no_id_is_refused(as_alice: LoggedInClient, survivor: Patient, verb: str, body: Any) -> None:
    answer = as_alice.post(f"/api/patients/{survivor.pk}/{verb}/", body)
    assert [error["pointer"] for error in errors(answer)] == ["/duplicate"]


@pytest.mark.parametrize("verb", [merge, unmerge])
def test_bob_merges_none_of_alices_patients(
    as_bob: LoggedInClient, survivor: Patient, duplicate: Patient, bob: User, verb: Any
) -> None:
    answers = [verb(as_bob, patient, duplicate) for patient in (survivor, Patient(pk=2**40))]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert {**answers[0].json(), "request_id": ""} == {**answers[1].json(), "request_id": ""}
    assert errors(verb(as_bob, make_patient(bob), duplicate)) == [MISSING]


def test_a_merge_is_remembered_with_who_and_why(
    as_alice: LoggedInClient, survivor: Patient, duplicate: Patient, alice: User
) -> None:
    mapping = make_mapping(duplicate, make_doctor(alice))
    answer = merge(as_alice, survivor, duplicate, headers={"X-Change-Reason": "one person"})
    said = {"actor": alice.pk, "request_id": answer["X-Request-Id"], "reason": "one person"}
    events = [*PatientEvent.objects.filter(pgh_label="update"), *MappingEvent.objects.filter(pgh_label="update")]
    assert [(event.id, event.pgh_context) for event in events] == [
        (survivor.pk, said), (duplicate.pk, said), (mapping.pk, said),
    ]  # fmt: skip
    access = AccessLog.objects.get()
    assert (access.action, access.patient_ids) == ("patient.merge", [survivor.pk, duplicate.pk])


def test_each_keeps_its_own_history(as_alice: LoggedInClient, survivor: Patient, duplicate: Patient) -> None:
    merge(as_alice, survivor, duplicate)
    own, others = (as_alice.get(f"/api/patients/{patient.pk}/history/").json() for patient in (survivor, duplicate))
    assert [row["changes"].keys() >= {"address"} for row in own] == [True, False]
    assert [row["action"] for row in others] == ["delete", "create"]
    assert others[0]["changes"]["merged_into"] == [None, survivor.pk]
    assert others[1]["changes"]["address"] == [None, "Bengaluru"]


def test_what_was_before_the_merge_still_shows_both(
    as_alice: LoggedInClient, survivor: Patient, duplicate: Patient, alice: User
) -> None:
    make_mapping(duplicate, make_doctor(alice))
    then = timezone.now().isoformat().replace("+", "%2B")
    urls = [f"/api/patients/{duplicate.pk}/", f"/api/patients/{duplicate.pk}/doctors/", "/api/patients/"]
    before = [as_alice.get(url).json() for url in urls]
    merge(as_alice, survivor, duplicate)
    assert [as_alice.get(f"{url}?as_of={then}").json() for url in urls] == before
    now = timezone.now().isoformat().replace("+", "%2B")
    assert as_alice.get(f"{urls[0]}?as_of={now}").status_code == 410
    assert [row["id"] for row in as_alice.get(f"{urls[2]}?as_of={now}").json()] == [survivor.pk]


def test_a_merge_can_be_held_to_a_state_of_the_survivor(
    as_alice: LoggedInClient, survivor: Patient, duplicate: Patient
) -> None:
    tag = as_alice.get(f"/api/patients/{survivor.pk}/")["ETag"]
    as_alice.patch(f"/api/patients/{survivor.pk}/", {"name": "John"})
    assert merge(as_alice, survivor, duplicate, headers={"If-Match": tag}).status_code == 412
    tag = as_alice.get(f"/api/patients/{survivor.pk}/")["ETag"]
    merged = merge(as_alice, survivor, duplicate, headers={"If-Match": tag})
    assert (merged.status_code, merged["ETag"]) == (200, as_alice.get(f"/api/patients/{survivor.pk}/")["ETag"])
    assert unmerge(as_alice, survivor, duplicate, headers={"If-Match": tag}).status_code == 412
    assert unmerge(as_alice, survivor, duplicate, headers={"If-Match": merged["ETag"]}).status_code == 200


def test_a_keyed_merge_happens_once(as_alice: LoggedInClient, survivor: Patient, duplicate: Patient) -> None:
    first, second = (merge(as_alice, survivor, duplicate, headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert (second.status_code, second.content, second["ETag"]) == (200, first.content, first["ETag"])
    assert second["Idempotency-Replayed"] == "true"
    assert errors(merge(as_alice, survivor, duplicate)) == [MISSING]
    assert PatientMerge.objects.count() == 1


def test_unmerging_gives_back_what_was_moved_and_empties_what_was_filled(
    as_alice: LoggedInClient, survivor: Patient, duplicate: Patient, alice: User
) -> None:
    doctor = make_doctor(alice)
    make_mapping(survivor, doctor, is_primary=True)
    ended, secondary = make_mapping(duplicate, doctor), make_mapping(duplicate, make_doctor(alice), is_primary=True)
    before = [read(as_alice, patient) for patient in (survivor, duplicate)]
    assignments = as_alice.get("/api/mappings/").json()
    merge(as_alice, survivor, duplicate)
    assert unmerge(as_alice, survivor, duplicate).status_code == 200
    after = [read(as_alice, patient) for patient in (survivor, duplicate)]
    assert [without_stamps(body) for body in after] == [without_stamps(body) for body in before]
    assert [body["version"] for body in after] == [3, 3]
    now = as_alice.get("/api/mappings/").json()
    assert [without_stamps(row) for row in now] == [without_stamps(row) for row in assignments]
    assert {row["id"]: row["version"] for row in now} == {now[2]["id"]: 1, ended.pk: 3, secondary.pk: 3}
    assert errors(unmerge(as_alice, survivor, duplicate)) == [MISSING]


def without_stamps(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in {"version", "updated_at"}}


def test_what_was_changed_or_added_since_stays(
    as_alice: LoggedInClient, survivor: Patient, duplicate: Patient, alice: User
) -> None:
    moved, other = make_mapping(duplicate, make_doctor(alice)), make_mapping(duplicate, make_doctor(alice))
    merge(as_alice, survivor, duplicate)
    as_alice.patch(f"/api/patients/{survivor.pk}/", {"address": "Mysuru", "birth_date": "1990-08-02"})
    as_alice.patch(f"/api/mappings/{moved.pk}/", {"role": "surgeon"})
    as_alice.delete(f"/api/mappings/{other.pk}/")
    added = as_alice.post("/api/mappings/", {"patient": survivor.pk, "doctor": make_doctor(alice).pk}).json()
    body = unmerge(as_alice, survivor, duplicate).json()
    assert (body["address"], body["birth_date"], body["birth_year"]) == ("Mysuru", "1990-08-02", 1990)
    assert body["gender"] == "U"
    assert read(as_alice, duplicate)["address"] == "Bengaluru"
    rows = {row["id"]: (row["patient"], row["role"]) for row in as_alice.get("/api/mappings/").json()}
    assert rows == {added["id"]: (survivor.pk, ""), moved.pk: (duplicate.pk, "surgeon")}
    assert [row["id"] for row in as_alice.get("/api/mappings/?active=false").json()] == [other.pk]


def test_who_was_made_primary_since_stays_the_one(
    as_alice: LoggedInClient, survivor: Patient, duplicate: Patient, alice: User
) -> None:
    doctor = make_doctor(alice)
    make_mapping(survivor, doctor, is_primary=True)
    was, ended = make_mapping(duplicate, make_doctor(alice), is_primary=True), make_mapping(duplicate, doctor)
    became = make_mapping(duplicate, make_doctor(alice))
    merge(as_alice, survivor, duplicate)
    as_alice.delete(f"/api/mappings/{Mapping.objects.get(patient=survivor, doctor=doctor, ended_at=None).pk}/")
    for mapping in (became, ended):
        assert as_alice.patch(f"/api/mappings/{mapping.pk}/", {"is_primary": True}).status_code == 200
    assert unmerge(as_alice, survivor, duplicate).status_code == 200
    rows = {row["id"]: (row["patient"], row["is_primary"]) for row in as_alice.get("/api/mappings/").json()}
    assert rows == {
        was.pk: (duplicate.pk, False), ended.pk: (duplicate.pk, False), became.pk: (duplicate.pk, True),
    }  # fmt: skip


def test_a_duplicate_comes_back_without_the_doctors_who_have_left_since(
    as_alice: LoggedInClient, survivor: Patient, duplicate: Patient, alice: User
) -> None:
    doctor = make_doctor(alice)
    kept, other = make_mapping(survivor, doctor), make_mapping(duplicate, doctor)
    merge(as_alice, survivor, duplicate)
    as_alice.delete(f"/api/mappings/{kept.pk}/")
    assert as_alice.delete(f"/api/doctors/{doctor.pk}/").status_code == 204
    assert unmerge(as_alice, survivor, duplicate).status_code == 200
    assert as_alice.get("/api/mappings/").json() == []
    other.refresh_from_db()
    doctor.refresh_from_db()
    assert (other.patient_id, other.ended_at) == (duplicate.pk, doctor.deleted_at)


def test_merges_come_apart_in_any_order(as_alice: LoggedInClient, alice: User) -> None:
    doctor, survivor = make_doctor(alice), make_patient(alice)
    first, second = make_patient(alice, phone="1"), make_patient(alice, phone="2", address="Mysuru")
    mappings = [make_mapping(patient, doctor) for patient in (first, second)]
    before = [read(as_alice, patient) for patient in (survivor, first, second)]
    for patient in (first, second):
        merge(as_alice, survivor, patient)
    assert [row["id"] for row in as_alice.get("/api/mappings/").json()] == [mappings[0].pk]
    for patient in (first, second):
        assert unmerge(as_alice, survivor, patient).status_code == 200
    after = [read(as_alice, patient) for patient in (survivor, first, second)]
    assert [without_stamps(body) for body in after] == [without_stamps(body) for body in before]
    rows = as_alice.get("/api/mappings/").json()
    assert [(row["id"], row["patient"]) for row in rows] == [(mappings[1].pk, second.pk), (mappings[0].pk, first.pk)]
