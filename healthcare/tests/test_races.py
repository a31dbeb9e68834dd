"""Concurrent requests that change the same records, over real connections: no change is lost, no deletion undone."""

from functools import partial
from typing import Any

import psycopg2

from healthcare.tests.concurrent_calls import call_concurrently
from healthcare.tests.live import LiveServer

TURNS = 20
ASSIGNMENTS_TO_DELETED_DOCTORS = """
SELECT count(*) FROM mappings_mapping
JOIN doctors_doctor ON doctors_doctor.id = doctor_id JOIN patients_patient ON patients_patient.id = patient_id
WHERE ended_at IS NULL AND patients_patient.deleted_at IS NULL AND doctors_doctor.deleted_at IS NOT NULL
"""


def create_record(live: LiveServer, token: str, path: str, **body: Any) -> int:
    """Return the id of a new record."""
    answer = live.call("POST", path, body, token)
    assert answer.status == 201, answer.body
    return int(answer.json["id"])


def assignments_to_deleted_doctors(live: LiveServer) -> int:
    connection = psycopg2.connect(live.database_url)
    try:
        cursor = connection.cursor()
        cursor.execute(ASSIGNMENTS_TO_DELETED_DOCTORS)
        return int(cursor.fetchone()[0])  # type: ignore[index]
    finally:
        connection.close()


def test_a_doctor_who_is_deleted_while_being_assigned_has_no_assignment(live: LiveServer):
    token = live.register()[1]["access"]
    for _ in range(TURNS):
        doctor = create_record(live, token, "/api/doctors/", name="Dr. Meera Rao")
        patients = [create_record(live, token, "/api/patients/", name="John Smith") for _ in range(3)]
        bodies = [{"patient": patient, "doctor": doctor} for patient in patients]
        deleted, *assigned = call_concurrently(
            partial(live.call, "DELETE", f"/api/doctors/{doctor}/", token=token),
            *[partial(live.call, "POST", "/api/mappings/", body, token) for body in bodies],
        )
        # Either an assignment came first and the doctor stays, or no assignment was created.
        assert deleted.status in {204, 409}
        assert {answer.status for answer in assigned} == {201 if deleted.status == 409 else 400}
    assert assignments_to_deleted_doctors(live) == 0


def test_a_patient_who_is_deleted_while_being_assigned_has_no_assignment(live: LiveServer):
    token = live.register()[1]["access"]
    doctors = [create_record(live, token, "/api/doctors/", name=f"Dr. {number}") for number in range(3)]
    for _ in range(TURNS):
        patient = create_record(live, token, "/api/patients/", name="John Smith")
        bodies = [{"patient": patient, "doctor": doctor} for doctor in doctors]
        deleted, *assigned = call_concurrently(
            partial(live.call, "DELETE", f"/api/patients/{patient}/", token=token),
            *[partial(live.call, "POST", "/api/mappings/", body, token) for body in bodies],
        )
        assert deleted.status == 204
        assert {answer.status for answer in assigned} <= {201, 400}
        assert live.call("GET", f"/api/mappings/{patient}/", token=token).status == 404
    assert live.call("GET", "/api/mappings/", token=token).json == []
    # Hidden assignments do not prevent the deletion of a doctor.
    assert [live.call("DELETE", f"/api/doctors/{doctor}/", token=token).status for doctor in doctors] == [204] * 3


def test_concurrent_changes_of_different_fields_all_survive(live: LiveServer):
    token = live.register()[1]["access"]
    patient = create_record(live, token, "/api/patients/", name="John Smith")
    for turn in range(TURNS):
        changes = {"name": f"John {turn}", "address": f"Street {turn}", "identifier": f"MRN {turn}", "phone": f"{turn}"}
        bodies = [{field: value} for field, value in changes.items()]
        answers = call_concurrently(
            *[partial(live.call, "PATCH", f"/api/patients/{patient}/", body, token) for body in bodies]
        )
        assert [answer.status for answer in answers] == [200] * 4
        record = live.call("GET", f"/api/patients/{patient}/", token=token).json
        assert {field: record[field] for field in changes} == changes
        assert record["version"] == 1 + 4 * (turn + 1)


def test_a_concurrent_change_never_restores_a_deleted_patient(live: LiveServer):
    token = live.register()[1]["access"]
    for _ in range(TURNS):
        path = f"/api/patients/{create_record(live, token, '/api/patients/', name='John Smith')}/"
        deleted, *changed = call_concurrently(
            partial(live.call, "DELETE", path, token=token),
            *[partial(live.call, "PATCH", path, {"name": "Jane Smith"}, token)] * 3,
        )
        assert deleted.status == 204
        assert {answer.status for answer in changed} <= {200, 404}
        assert live.call("GET", path, token=token).status == 404


def test_of_several_concurrent_deletions_one_succeeds(live: LiveServer):
    token = live.register()[1]["access"]
    for _ in range(TURNS):
        path = f"/api/patients/{create_record(live, token, '/api/patients/', name='John Smith')}/"
        answers = call_concurrently(*[partial(live.call, "DELETE", path, token=token)] * 4)
        assert sorted(answer.status for answer in answers) == [204, 404, 404, 404]
