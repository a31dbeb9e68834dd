"""PATCH of an assignment: role, reason, start, end and the primary doctor."""

import datetime
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from mappings.models import Mapping, MappingEvent
from mappings.tests.factories import make_mapping, make_past_mapping
from patients.models import Patient
from patients.tests.factories import make_patient

START = datetime.datetime(2026, 3, 1, 9, tzinfo=datetime.UTC)


@pytest.fixture
def patient(alice: User) -> Patient:
    return make_patient(alice)


@pytest.fixture
def mapping(patient: Patient, alice: User) -> Mapping:
    return make_mapping(patient, make_doctor(alice), started_at=START)


def path(mapping: Mapping) -> str:
    return f"/api/mappings/{mapping.pk}/"


def refused(answer: Any) -> list[tuple[str, str]]:
    assert answer.status_code == 400, answer.content
    return [(error["pointer"], error["code"]) for error in answer.json()["errors"]]


def test_a_new_assignment_stores_role_reason_and_start(as_alice: LoggedInClient, patient: Patient, alice: User) -> None:
    stated = {"role": "surgeon", "is_primary": True, "reason": "hip", "started_at": "2026-03-01T09:00:00Z"}
    body = {"patient": patient.pk, "doctor": make_doctor(alice).pk}
    answer = as_alice.post("/api/mappings/", body | stated)
    assert answer.status_code == 201
    assert answer.json().items() >= (stated | {"ended_at": None, "version": 1}).items()


def test_a_new_assignment_with_an_end_is_a_past_one(as_alice: LoggedInClient, patient: Patient, alice: User) -> None:
    body = {"patient": patient.pk, "doctor": make_doctor(alice).pk, "started_at": "2026-03-01T09:00:00Z"}
    past = as_alice.post("/api/mappings/", body | {"ended_at": "2026-03-02T09:00:00Z"})
    assert (past.status_code, past.json().get("ended_at")) == (201, "2026-03-02T09:00:00Z")
    assert as_alice.get(past["Location"]).json() == past.json()
    assert as_alice.get("/api/mappings/?active=false").json() == [past.json()]
    for end in ("2026-02-28T09:00:00Z", "2999-01-01T00:00:00Z", "2026-03-02"):
        answer = as_alice.post("/api/mappings/", body | {"ended_at": end})
        assert [pointer for pointer, _ in refused(answer)] == ["/ended_at"]
    assert as_alice.post("/api/mappings/", body | {"ended_at": None}).status_code == 201


def test_patch_changes_the_given_fields_and_returns_the_assignment(as_alice: LoggedInClient, mapping: Mapping) -> None:
    (before,) = as_alice.get("/api/mappings/").json()
    answer = as_alice.patch(path(mapping), {"role": "surgeon", "started_at": "2026-02-28T09:00:00+01:00"})
    changed = {"role": "surgeon", "started_at": "2026-02-28T08:00:00Z", "version": 2}
    assert answer.status_code == 200
    assert answer.json() == before | changed | {"updated_at": answer.json()["updated_at"]}
    assert as_alice.get("/api/mappings/").json() == [answer.json()]


def test_put_is_not_allowed(as_alice: LoggedInClient, mapping: Mapping) -> None:
    answer = as_alice.put(path(mapping), {"role": "surgeon"})
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD, OPTIONS, PATCH, DELETE")


def test_patch_honours_if_match(as_alice: LoggedInClient, patient: Patient, alice: User) -> None:
    pair = {"patient": patient.pk, "doctor": make_doctor(alice).pk}
    created = as_alice.post("/api/mappings/", pair)
    where = f"/api/mappings/{created.json()['id']}/"
    changed = as_alice.patch(where, {"role": "surgeon"}, headers={"If-Match": created["ETag"]})
    assert (changed.status_code, changed["ETag"] == created["ETag"]) == (200, False)
    assert as_alice.patch(where, {"role": "nurse"}, headers={"If-Match": created["ETag"]}).status_code == 412
    assert as_alice.patch(where, {"role": "surgeon"}, headers={"If-Match": changed["ETag"]}).json() == changed.json()
    assert as_alice.delete(where, headers={"If-Match": created["ETag"]}).status_code == 412
    assert as_alice.delete(where, headers={"If-Match": changed["ETag"]}).status_code == 204


def test_patient_and_doctor_cannot_be_changed(
    as_alice: LoggedInClient, mapping: Mapping, alice: User, bob: User
) -> None:
    same = {"patient": mapping.patient_id, "doctor": mapping.doctor_id}
    assert as_alice.patch(path(mapping), same | {"role": "surgeon"}).json()["version"] == 2
    for field, other in (("patient", make_patient(alice)), ("doctor", make_doctor(alice))):
        assert refused(as_alice.patch(path(mapping), {field: other.pk})) == [(f"/{field}", "invalid")]
    answers = [as_alice.patch(path(mapping), {"patient": number}) for number in (make_patient(bob).pk, 2**40)]
    assert {**answers[0].json(), "request_id": ""} == {**answers[1].json(), "request_id": ""}
    no_ids: list[Any] = [None, "1", 0, True, 1.5, 2**70, []]
    for no_id in no_ids:
        assert [pointer for pointer, _ in refused(as_alice.patch(path(mapping), {"doctor": no_id}))] == ["/doctor"]


def test_ended_at_ends_the_assignment(as_alice: LoggedInClient, mapping: Mapping) -> None:
    answer = as_alice.patch(path(mapping), {"ended_at": "2026-03-05T12:00:00Z"})
    assert (answer.status_code, answer.json()["ended_at"]) == (200, "2026-03-05T12:00:00Z")
    assert as_alice.get("/api/mappings/").json() == []
    assert as_alice.delete(path(mapping)).status_code == 404
    history = as_alice.get(f"{path(mapping)}history/").json()
    assert [row["action"] for row in history] == ["delete", "create"]


def test_a_past_assignment_can_be_corrected(as_alice: LoggedInClient, mapping: Mapping) -> None:
    as_alice.delete(path(mapping))
    correction = {"role": "surgeon", "reason": "hip", "started_at": "2026-02-01T00:00:00Z",
                  "ended_at": "2026-02-02T00:00:00Z"}  # fmt: skip
    answer = as_alice.patch(path(mapping), correction)
    assert answer.json().items() >= (correction | {"version": 3}).items()
    assert as_alice.get("/api/mappings/?active=false").json() == [answer.json()]


def test_an_ended_assignment_cannot_be_reopened_but_the_doctor_can_be_assigned_again(
    as_alice: LoggedInClient, mapping: Mapping
) -> None:
    assert as_alice.patch(path(mapping), {"ended_at": None}).json()["version"] == 1  # it has not ended
    as_alice.delete(path(mapping))
    assert refused(as_alice.patch(path(mapping), {"ended_at": None})) == [("/ended_at", "invalid")]
    pair = {"patient": mapping.patient_id, "doctor": mapping.doctor_id}
    assert as_alice.post("/api/mappings/", pair).status_code == 201
    assert as_alice.patch(path(mapping), {"role": "surgeon"}).status_code == 200  # beside the new one


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"ended_at": "2026-02-28T23:59:59Z"}, "/ended_at"),  # before the start
        ({"started_at": "2026-03-02T00:00:00Z", "ended_at": "2026-03-01T00:00:00Z"}, "/ended_at"),
        ({"ended_at": "2999-01-01T00:00:00Z"}, "/ended_at"),
        ({"ended_at": "9999-12-31T23:59:59-14:00"}, "/ended_at"),
        ({"started_at": "2026-03-02T00:00:00.000002Z", "ended_at": "2026-03-02T00:00:00.000001Z"}, "/ended_at"),
        ({"started_at": "2999-01-01T00:00:00Z"}, "/started_at"),
        ({"started_at": None}, "/started_at"),
        ({"started_at": "yesterday"}, "/started_at"),
        ({"started_at": 1772000000}, "/started_at"),
        ({"started_at": "0001-01-01T00:00:00+14:00"}, "/started_at"),
        ({"started_at": "0001-01-01T00:00:00Z"}, "/started_at"),
        ({"started_at": "1849-12-31T23:59:59Z"}, "/started_at"),
        ({"is_primary": "yes"}, "/is_primary"),
        ({"is_primary": None}, "/is_primary"),
        ({"role": "x" * 101}, "/role"),
        ({"reason": ["hip"]}, "/reason"),
    ],
)
def test_invalid_input_names_the_field_and_changes_nothing(
    as_alice: LoggedInClient, mapping: Mapping, body: dict[str, Any], pointer: str
) -> None:
    assert [where for where, _ in refused(as_alice.patch(path(mapping), body))] == [pointer]
    mapping.refresh_from_db()
    assert (mapping.version, mapping.started_at, mapping.ended_at) == (1, START, None)


def test_an_assignment_cannot_end_before_it_starts(as_alice: LoggedInClient, mapping: Mapping) -> None:
    answer = as_alice.patch(path(mapping), {"ended_at": "2026-02-01T00:00:00Z"})
    assert answer.json()["errors"] == [
        {"pointer": "/ended_at", "code": "invalid", "detail": "An assignment cannot end before it starts."}
    ]


def test_a_future_end_on_record_can_be_sent_unchanged(as_alice: LoggedInClient, mapping: Mapping) -> None:
    Mapping.objects.update(started_at=timezone.now() + datetime.timedelta(days=2))
    as_alice.delete(path(mapping))  # ends when it starts
    (ended,) = as_alice.get("/api/mappings/?active=false").json()
    assert as_alice.patch(path(mapping), ended | {"role": "surgeon"}).json()["role"] == "surgeon"


@pytest.mark.parametrize("method", ["post", "patch"])
@pytest.mark.parametrize(("seconds", "status"), [(50, "accepted"), (70, "refused")])
def test_a_start_may_be_ahead_by_the_skew_of_a_clock(
    as_alice: LoggedInClient, mapping: Mapping, alice: User, method: str, seconds: int, status: str
) -> None:
    at = (timezone.now() + datetime.timedelta(seconds=seconds)).isoformat()
    if method == "post":
        body = {"patient": mapping.patient_id, "doctor": make_doctor(alice).pk, "started_at": at}
        answer = as_alice.post("/api/mappings/", body)
    else:
        answer = as_alice.patch(path(mapping), {"started_at": at})
    if status == "refused":
        assert refused(answer) == [("/started_at", "invalid")]
    else:
        listed = as_alice.get(f"/api/patients/{mapping.patient_id}/doctors/").json()
        assert answer.json()["id"] in [doctor["mapping"] for doctor in listed]
        assert as_alice.delete(f"/api/mappings/{answer.json()['id']}/").status_code == 204


def test_an_end_may_be_ahead_by_the_skew_of_a_clock_and_counts(as_alice: LoggedInClient, mapping: Mapping) -> None:
    at = (timezone.now() + datetime.timedelta(seconds=50)).isoformat()
    assert as_alice.patch(path(mapping), {"ended_at": at}).status_code == 200
    assert as_alice.get("/api/mappings/").json() == []


def test_an_end_that_equals_the_start_cut_to_milliseconds_is_the_start(
    as_alice: LoggedInClient, mapping: Mapping
) -> None:
    Mapping.objects.update(started_at=START.replace(microsecond=123_456))
    answer = as_alice.patch(path(mapping), {"ended_at": START.replace(microsecond=123_000).isoformat()})
    assert answer.json()["ended_at"] == answer.json()["started_at"] == "2026-03-01T09:00:00.123456Z"


def test_a_constraint_points_at_a_field_that_was_sent(as_alice: LoggedInClient, alice: User) -> None:
    past = make_past_mapping(make_patient(alice), make_doctor(alice))
    answer = as_alice.patch(path(past), {"started_at": timezone.now().isoformat()})
    assert refused(answer) == [("/started_at", "invalid")]
    pair = {"patient": past.patient_id, "doctor": past.doctor_id}
    assert as_alice.post("/api/mappings/", pair).status_code == 201
    assert refused(as_alice.post("/api/mappings/", pair)) == [("/doctor", "unique")]


def test_a_second_primary_doctor_is_refused(as_alice: LoggedInClient, mapping: Mapping, alice: User) -> None:
    other = make_mapping(mapping.patient, make_doctor(alice))
    assert as_alice.patch(path(mapping), {"is_primary": True}).status_code == 200
    assert refused(as_alice.patch(path(other), {"is_primary": True})) == [("/is_primary", "unique")]
    as_alice.delete(path(mapping))
    assert as_alice.patch(path(other), {"is_primary": True}).status_code == 200
    assert as_alice.patch(path(mapping), {"is_primary": True}).status_code == 200  # he was in his time


def test_bob_cannot_change_alices_assignments(as_bob: LoggedInClient, mapping: Mapping) -> None:
    answers = [as_bob.patch(f"/api/mappings/{number}/", {"role": "x"}) for number in (mapping.pk, 2**40)]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert {**answers[0].json(), "request_id": ""} == {**answers[1].json(), "request_id": ""}


def test_an_assignment_of_a_deleted_patient_is_404(as_alice: LoggedInClient, mapping: Mapping) -> None:
    as_alice.delete(f"/api/patients/{mapping.patient_id}/")
    assert as_alice.patch(path(mapping), {"role": "x"}).status_code == 404


def test_the_history_of_a_change_holds_the_actor_and_the_reason(
    as_alice: LoggedInClient, mapping: Mapping, alice: User
) -> None:
    answer = as_alice.patch(path(mapping), {"role": "surgeon"}, headers={"X-Change-Reason": "hip"})
    event = MappingEvent.objects.get(pgh_label="update")
    assert event.pgh_context == {"actor": alice.pk, "request_id": answer["X-Request-Id"], "reason": "hip"}
    assert as_alice.patch(path(mapping), {"role": "surgeon"}).json()["version"] == 2
    assert MappingEvent.objects.filter(pgh_label="update").count() == 1
