"""Concurrent merges over real connections: of two that contradict each other one succeeds; no assignment is lost."""

from functools import partial
from typing import Any

import pytest

from healthcare.tests.concurrent_calls import call_concurrently, sorted_statuses
from healthcare.tests.live import Answer, LiveServer

TURNS = 20


@pytest.fixture
def token(live: LiveServer) -> str:
    return str(live.register()[1]["access"])


def made(live: LiveServer, token: str, path: str, **body: Any) -> int:
    """The id of a new record."""
    answer = live.call("POST", path, body, token)
    assert answer.status == 201, answer.body
    return int(answer.json["id"])


def call(live: LiveServer, token: str, verb: str, survivor: int, duplicate: int) -> Answer:
    return live.call("POST", f"/api/patients/{survivor}/{verb}/", {"duplicate": duplicate}, token)


def test_of_two_opposite_concurrent_merges_one_succeeds(live: LiveServer, token: str) -> None:
    for _ in range(TURNS):
        one, other = (made(live, token, "/api/patients/", name=name) for name in ("One", "Other"))
        answers = call_concurrently(
            *[partial(call, live, token, "merge", one, other)] * 4,
            *[partial(call, live, token, "merge", other, one)] * 4,
        )
        won = one if 200 in sorted_statuses(answers[:4]) else other
        same, opposite = (answers[:4], answers[4:]) if won == one else (answers[4:], answers[:4])
        assert sorted_statuses(same) == [200] + [400] * 3
        assert sorted_statuses(opposite) == [410] * 4
        left = live.call("GET", "/api/patients/?limit=1", token=token).json
        assert [row["id"] for row in left] == [won]


def test_concurrent_merges_in_a_circle_leave_one_active_patient(live: LiveServer, token: str) -> None:
    for _ in range(TURNS):
        ring = [made(live, token, "/api/patients/", name=f"Number {number}") for number in range(4)]
        answers = call_concurrently(
            *[partial(call, live, token, "merge", ring[number], ring[number - 1]) for number in range(len(ring))]
        )
        assert {answer.status for answer in answers} <= {200, 400, 410}
        alive = [key for key in ring if live.call("GET", f"/api/patients/{key}/", token=token).status == 200]
        assert len(alive) == len(ring) - sorted_statuses(answers).count(200) >= 1
        gone = [live.call("GET", f"/api/patients/{key}/", token=token) for key in ring if key not in alive]
        links = {f'</api/patients/{key}/>; rel="successor-version"' for key in alive}
        assert all((answer.status, answer.headers["Link"] in links) == (410, True) for answer in gone)


def test_assignments_and_changes_that_race_with_a_merge_end_at_the_survivor(live: LiveServer, token: str) -> None:
    doctors = [made(live, token, "/api/doctors/", name=f"Dr. {number}") for number in range(4)]
    for _ in range(TURNS):
        survivor, duplicate = (made(live, token, "/api/patients/", name=name) for name in ("One", "Other"))
        mapping = made(live, token, "/api/mappings/", patient=duplicate, doctor=doctors[0])
        other = made(live, token, "/api/mappings/", patient=survivor, doctor=doctors[0])
        pairs = [{"patient": patient, "doctor": doctor} for patient in (survivor, duplicate) for doctor in doctors[1:3]]
        merged, primary, secondary, ended, *assigned = call_concurrently(
            partial(call, live, token, "merge", survivor, duplicate),
            partial(live.call, "PATCH", f"/api/mappings/{mapping}/", {"is_primary": True}, token),
            partial(live.call, "PATCH", f"/api/mappings/{other}/", {"is_primary": True}, token),
            partial(live.call, "DELETE", f"/api/mappings/{other}/", token=token),
            *[partial(live.call, "POST", "/api/mappings/", pair, token) for pair in pairs],
        )
        assert (merged.status, ended.status) == (200, 204)
        assert {primary.status, secondary.status} <= {200, 400}
        assert {answer.status for answer in assigned} <= {201, 400}
        active, past = (
            live.call("GET", f"/api/mappings/?limit=500{query}", token=token).json for query in ("", "&active=false")
        )
        new = {answer.json["id"] for answer in assigned if answer.status == 201}
        rows = [row for row in active + past if row["id"] in new | {mapping, other}]
        assert len(rows) == len(new) + 2
        assert {row["patient"] for row in rows} == {survivor}
        theirs = [row for row in active if row["patient"] == survivor]
        assert len({row["doctor"] for row in theirs}) == len(theirs)
        assert sum(row["is_primary"] for row in theirs) <= 1


def test_an_assignment_ended_during_a_merge_stays_ended(live: LiveServer, token: str) -> None:
    doctors = [made(live, token, "/api/doctors/", name=f"Dr. {number}") for number in range(7)]
    for _ in range(TURNS):
        survivor, duplicate = (made(live, token, "/api/patients/", name=name) for name in ("One", "Other"))
        mappings = [made(live, token, "/api/mappings/", patient=duplicate, doctor=doctor) for doctor in doctors]
        paths = [f"/api/mappings/{mapping}/" for mapping in mappings]
        answers = call_concurrently(
            partial(call, live, token, "merge", survivor, duplicate),
            *[partial(live.call, "DELETE", path, token=token) for path in paths],
        )
        assert sorted_statuses(answers) == [200] + [204] * len(paths)
        past = live.call("GET", f"/api/mappings/?active=false&limit={len(paths)}", token=token).json
        assert [(row["id"], row["patient"], row["version"]) for row in past] == [
            (mapping, survivor, 3) for mapping in mappings[::-1]
        ]


def test_a_merge_that_races_with_a_delete_or_a_change_never_fails(live: LiveServer, token: str) -> None:
    for _ in range(TURNS):
        survivor, duplicate = (made(live, token, "/api/patients/", name=name) for name in ("One", "Other"))
        path = f"/api/patients/{duplicate}/"
        merged, deleted, changed, restored = call_concurrently(
            partial(call, live, token, "merge", survivor, duplicate),
            partial(live.call, "DELETE", path, token=token),
            partial(live.call, "PATCH", path, {"phone": "1"}, token),
            partial(live.call, "POST", f"{path}restore/", None, token),
        )
        assert (merged.status, deleted.status) in {(200, 410), (200, 404), (400, 204), (200, 204)}
        assert changed.status in {200, 404, 410}
        assert restored.status in {200, 410}
        there = live.call("GET", path, token=token).status
        assert there == 410 if merged.status == 200 else there in {200, 404}


def test_of_concurrent_unmerges_one_succeeds(live: LiveServer, token: str) -> None:
    survivor, duplicate = (made(live, token, "/api/patients/", name=name) for name in ("One", "Other"))
    doctor = made(live, token, "/api/doctors/", name="Dr. Meera Rao")
    mapping = made(live, token, "/api/mappings/", patient=duplicate, doctor=doctor)
    for _ in range(TURNS):
        assert call(live, token, "merge", survivor, duplicate).status == 200
        answers = call_concurrently(*[partial(call, live, token, "unmerge", survivor, duplicate)] * 8)
        assert sorted_statuses(answers) == [200] + [400] * 7
        (row,) = live.call("GET", "/api/mappings/", token=token).json
        assert (row["id"], row["patient"]) == (mapping, duplicate)
