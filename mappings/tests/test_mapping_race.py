"""Concurrent assignments to one patient, over real connections."""

from functools import partial
from typing import Any

import pytest

from healthcare.tests.concurrent_calls import call_concurrently, sorted_statuses
from healthcare.tests.live import Answer, LiveServer


def refused_as(answers: list[Answer]) -> set[tuple[str, str]]:
    errors = [error for answer in answers if answer.status == 400 for error in answer.json["errors"]]
    return {(error["pointer"], error["code"]) for error in errors}


def made(live: LiveServer, token: str, path: str, **body: Any) -> int:
    """The id of a new record."""
    answer = live.call("POST", path, body, token)
    assert answer.status == 201, answer.body
    return int(answer.json["id"])


@pytest.mark.slow
def test_of_sixteen_concurrent_equal_assignments_one_is_created(live: LiveServer):
    token = live.register()[1]["access"]
    doctor = made(live, token, "/api/doctors/", name="Dr. Meera Rao")
    for _ in range(50):
        patient = made(live, token, "/api/patients/", name="John Smith")
        assign = partial(live.call, "POST", "/api/mappings/", {"patient": patient, "doctor": doctor}, token)
        answers = call_concurrently(*[assign] * 16)
        assert sorted_statuses(answers) == [201] + [400] * 15
        assert refused_as(answers) == {("/doctor", "unique")}
        assert len(live.call("GET", f"/api/mappings/{patient}/", token=token).json) == 1


def test_of_sixteen_concurrent_primary_doctors_one_is_created(live: LiveServer):
    token = live.register()[1]["access"]
    doctors = [made(live, token, "/api/doctors/", name=f"Dr. {number}") for number in range(16)]
    for _ in range(20):
        patient = made(live, token, "/api/patients/", name="John Smith")
        bodies = [{"patient": patient, "doctor": doctor, "is_primary": True} for doctor in doctors]
        answers = call_concurrently(*[partial(live.call, "POST", "/api/mappings/", body, token) for body in bodies])
        assert sorted_statuses(answers) == [201] + [400] * 15
        assert refused_as(answers) == {("/is_primary", "unique")}
        assert len(live.call("GET", f"/api/mappings/{patient}/", token=token).json) == 1


def test_of_sixteen_concurrent_changes_to_primary_one_succeeds(live: LiveServer):
    token = live.register()[1]["access"]
    patient = made(live, token, "/api/patients/", name="John Smith")
    doctors = [made(live, token, "/api/doctors/", name=f"Dr. {number}") for number in range(16)]
    mappings = [made(live, token, "/api/mappings/", patient=patient, doctor=doctor) for doctor in doctors]
    paths = [f"/api/mappings/{mapping}/" for mapping in mappings]
    for _ in range(20):
        answers = call_concurrently(*[partial(live.call, "PATCH", path, {"is_primary": True}, token) for path in paths])
        assert sorted_statuses(answers) == [200] + [400] * 15
        assert refused_as(answers) == {("/is_primary", "unique")}
        (primary,) = [row for row in live.call("GET", "/api/mappings/", token=token).json if row["is_primary"]]
        assert answers[mappings.index(primary["id"])].status == 200
        live.call("PATCH", f"/api/mappings/{primary['id']}/", {"is_primary": False}, token)


def test_a_concurrent_end_and_change_of_an_assignment_both_survive(live: LiveServer):
    token = live.register()[1]["access"]
    doctor = made(live, token, "/api/doctors/", name="Dr. Meera Rao")
    for _ in range(20):
        patient = made(live, token, "/api/patients/", name="John Smith")
        mapping = made(live, token, "/api/mappings/", patient=patient, doctor=doctor)
        path = f"/api/mappings/{mapping}/"
        changes = [{"role": "surgeon"}, {"reason": "hip"}, {"ended_at": None}]
        changed = [partial(live.call, "PATCH", path, change, token) for change in changes]
        ended, *answers = call_concurrently(partial(live.call, "DELETE", path, token=token), *changed)
        assert (ended.status, [answer.status for answer in answers[:2]]) == (204, [200, 200])
        assert answers[2].status in {200, 400}  # before the end it says nothing new
        (ended_row,) = live.call("GET", f"/api/patients/{patient}/doctors/?active=false", token=token).json
        assert ended_row["mapping"] == mapping
        (row,) = [
            row for row in live.call("GET", "/api/mappings/?active=false", token=token).json if row["id"] == mapping
        ]
        assert (row["role"], row["reason"], row["version"]) == ("surgeon", "hip", 4)
