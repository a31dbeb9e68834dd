"""Merging two records of one person. Alice merges her own patients, bob is an outsider."""

import datetime
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from audit.models import AccessLog
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from mappings.models import MappingEvent
from mappings.tests.factories import make_mapping, make_past_mapping
from patients.models import Patient, PatientEvent, PatientMerge
from patients.tests.factories import make_patient
from patients.tests.merging import MISSING, errors, merge, read, unmerge


def test_a_merge_fills_empty_fields_and_overwrites_none(
    as_alice: LoggedInClient, survivor: Patient, duplicate: Patient
) -> None:
    before = read(as_alice, survivor)
    answer = merge(as_alice, survivor, duplicate)
    filled = {"gender": "M", "birth_date": "1990-07-01", "birth_year": 1990, "deceased": True, "address": "Bengaluru"}
    expected = before | filled | {name: answer.json()[name] for name in ("age", "updated_at")} | {"version": 2}
    assert (answer.status_code, answer.json()) == (200, expected)
    assert read(as_alice, survivor) == expected
    assert as_alice.get("/api/patients/").json() == [expected]


@pytest.mark.parametrize(
    ("survivors", "duplicates", "expected"),
    [
        ({}, {"birth_year": 1990}, (None, 1990)),
        ({"birth_year": 1990}, {"birth_date": datetime.date(1990, 7, 1)}, ("1990-07-01", 1990)),
        ({"birth_year": 1991}, {"birth_date": datetime.date(1990, 7, 1)}, (None, 1991)),
        ({"birth_date": datetime.date(1991, 7, 1)}, {"birth_year": 1990}, ("1991-07-01", 1991)),
    ],
)
def test_a_merge_fills_a_birth_that_does_not_contradict_the_survivors(
    as_alice: LoggedInClient, alice: User, survivors: Any, duplicates: Any, expected: Any
) -> None:
    survivor, duplicate = make_patient(alice, **survivors), make_patient(alice, **duplicates)
    before = read(as_alice, survivor)
    body = merge(as_alice, survivor, duplicate).json()
    assert (body["birth_date"], body["birth_year"]) == expected
    after = unmerge(as_alice, survivor, duplicate).json()
    assert [after[name] for name in ("birth_date", "birth_year")] == [before[n] for n in ("birth_date", "birth_year")]


def test_a_merge_moves_the_duplicates_assignments(
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


def test_a_merge_ends_the_duplicates_assignment_of_a_doctor_both_have(
    as_alice: LoggedInClient, survivor: Patient, duplicate: Patient, alice: User
) -> None:
    doctor = make_doctor(alice)
    own, other = make_mapping(survivor, doctor), make_mapping(duplicate, doctor, role="surgeon")
    merge(as_alice, survivor, duplicate)
    assert [row["id"] for row in as_alice.get("/api/mappings/").json()] == [own.pk]
    (row,) = as_alice.get("/api/mappings/?active=false").json()
    assert (row["id"], row["patient"], row["role"]) == (other.pk, survivor.pk, "surgeon")


def test_a_merge_keeps_the_survivors_primary_doctor(
    as_alice: LoggedInClient, survivor: Patient, duplicate: Patient, alice: User
) -> None:
    own = make_mapping(survivor, make_doctor(alice), is_primary=True)
    other = make_mapping(duplicate, make_doctor(alice), is_primary=True)
    merge(as_alice, survivor, duplicate)
    rows = as_alice.get("/api/mappings/").json()
    assert [(row["id"], row["is_primary"]) for row in rows] == [(other.pk, False), (own.pk, True)]


@pytest.mark.parametrize("verb", [merge, unmerge])
def test_a_duplicate_that_is_missing_deleted_or_anothers_is_refused(
    as_alice: LoggedInClient, survivor: Patient, alice: User, bob: User, verb: Any
) -> None:
    deleted = make_patient(alice, deleted_at=timezone.now())
    for other in (make_patient(bob), Patient(pk=2**40), deleted, survivor):
        assert errors(verb(as_alice, survivor, other)) == [MISSING]
    assert Patient.objects.active().count() == 2


@pytest.mark.parametrize("body", [{}, {"duplicate": None}, {"duplicate": "1"}, {"duplicate": 0}, {"duplicate": 2**70}])
@pytest.mark.parametrize("verb", ["merge", "unmerge"])
def test_an_invalid_id_of_the_duplicate_is_refused(
    as_alice: LoggedInClient, survivor: Patient, verb: str, body: Any
) -> None:
    answer = as_alice.post(f"/api/patients/{survivor.pk}/{verb}/", body)
    assert [error["pointer"] for error in errors(answer)] == ["/duplicate"]


@pytest.mark.parametrize("verb", [merge, unmerge])
def test_bob_cannot_merge_alices_patients(
    as_bob: LoggedInClient, survivor: Patient, duplicate: Patient, bob: User, verb: Any
) -> None:
    answers = [verb(as_bob, patient, duplicate) for patient in (survivor, Patient(pk=2**40))]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert {**answers[0].json(), "request_id": ""} == {**answers[1].json(), "request_id": ""}
    assert errors(verb(as_bob, make_patient(bob), duplicate)) == [MISSING]


def test_the_history_of_a_merge_holds_the_actor_and_the_reason(
    as_alice: LoggedInClient, survivor: Patient, duplicate: Patient, alice: User
) -> None:
    mapping = make_mapping(duplicate, make_doctor(alice))
    answer = merge(as_alice, survivor, duplicate, headers={"X-Change-Reason": "one person"})
    context = {"actor": alice.pk, "request_id": answer["X-Request-Id"], "reason": "one person"}
    events = [*PatientEvent.objects.filter(pgh_label="update"), *MappingEvent.objects.filter(pgh_label="update")]
    assert [(event.id, event.pgh_context) for event in events] == [
        (survivor.pk, context), (duplicate.pk, context), (mapping.pk, context),
    ]  # fmt: skip
    access = AccessLog.objects.get()
    assert (access.action, access.patient_ids) == ("patient.merge", [survivor.pk, duplicate.pk])


def test_survivor_and_duplicate_keep_their_own_histories(
    as_alice: LoggedInClient, survivor: Patient, duplicate: Patient
) -> None:
    merge(as_alice, survivor, duplicate)
    own, others = (as_alice.get(f"/api/patients/{patient.pk}/history/").json() for patient in (survivor, duplicate))
    assert [row["changes"].keys() >= {"address"} for row in own] == [True, False]
    assert [row["action"] for row in others] == ["delete", "create"]
    assert others[0]["changes"]["merged_into"] == [None, survivor.pk]
    assert others[1]["changes"]["address"] == [None, "Bengaluru"]


def test_as_of_a_time_before_the_merge_both_patients_are_there(
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


def test_merge_and_unmerge_honour_if_match(as_alice: LoggedInClient, survivor: Patient, duplicate: Patient) -> None:
    tag = as_alice.get(f"/api/patients/{survivor.pk}/")["ETag"]
    as_alice.patch(f"/api/patients/{survivor.pk}/", {"name": "John"})
    assert merge(as_alice, survivor, duplicate, headers={"If-Match": tag}).status_code == 412
    tag = as_alice.get(f"/api/patients/{survivor.pk}/")["ETag"]
    merged = merge(as_alice, survivor, duplicate, headers={"If-Match": tag})
    assert (merged.status_code, merged["ETag"]) == (200, as_alice.get(f"/api/patients/{survivor.pk}/")["ETag"])
    assert unmerge(as_alice, survivor, duplicate, headers={"If-Match": tag}).status_code == 412
    assert unmerge(as_alice, survivor, duplicate, headers={"If-Match": merged["ETag"]}).status_code == 200


def test_a_merge_with_an_idempotency_key_happens_once(
    as_alice: LoggedInClient, survivor: Patient, duplicate: Patient
) -> None:
    first, second = (merge(as_alice, survivor, duplicate, headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert (second.status_code, second.content, second["ETag"]) == (200, first.content, first["ETag"])
    assert second["Idempotency-Replayed"] == "true"
    assert errors(merge(as_alice, survivor, duplicate)) == [MISSING]
    assert PatientMerge.objects.count() == 1
