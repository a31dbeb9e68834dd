"""Assigning doctors to one patient many times at once, over real connections."""

from functools import partial
from typing import Any

from healthcare.tests.live import Answer, LiveServer
from healthcare.tests.simultaneous import at_once, statuses


def refused_as(answers: list[Answer]) -> set[tuple[str, str]]:
    errors = [error for answer in answers if answer.status == 400 for error in answer.json["errors"]]
    return {(error["pointer"], error["code"]) for error in errors}


def made(live: LiveServer, token: str, path: str, **body: Any) -> int:
    """The id of a new record."""
    answer = live.call("POST", path, body, token)
    assert answer.status == 201, answer.body
    return int(answer.json["id"])


def test_of_sixteen_same_assignments_at_once_one_is_made(live: LiveServer):
    token = live.register()[1]["access"]
    doctor = made(live, token, "/api/doctors/", name="Dr. Meera Rao")
    for _ in range(50):
        patient = made(live, token, "/api/patients/", name="John Smith")
        assign = partial(live.call, "POST", "/api/mappings/", {"patient": patient, "doctor": doctor}, token)
        answers = at_once(*[assign] * 16)
        assert statuses(answers) == [201] + [400] * 15
        assert refused_as(answers) == {("/doctor", "unique")}
        assert len(live.call("GET", f"/api/mappings/{patient}/", token=token).json) == 1


def test_of_sixteen_primary_doctors_at_once_one_is(live: LiveServer):
    token = live.register()[1]["access"]
    doctors = [made(live, token, "/api/doctors/", name=f"Dr. {number}") for number in range(16)]
    for _ in range(20):
        patient = made(live, token, "/api/patients/", name="John Smith")
        bodies = [{"patient": patient, "doctor": doctor, "is_primary": True} for doctor in doctors]
        answers = at_once(*[partial(live.call, "POST", "/api/mappings/", body, token) for body in bodies])
        assert statuses(answers) == [201] + [400] * 15
        assert refused_as(answers) == {("/is_primary", "unique")}
        assert len(live.call("GET", f"/api/mappings/{patient}/", token=token).json) == 1
