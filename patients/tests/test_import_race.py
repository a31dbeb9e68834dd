"""Imports that run at the same time as others, over real connections."""

from functools import partial

import pytest

from healthcare.tests.concurrent_calls import call_concurrently
from healthcare.tests.live import Answer, LiveServer

TURNS = 3
ROWS = 300


@pytest.fixture
def token(live: LiveServer) -> str:
    return str(live.register()[1]["access"])


def import_file(live: LiveServer, token: str, turn: int) -> Answer:
    lines = [f"Person {turn} {row},N-{turn}-{row}" for row in range(ROWS)]
    body = "\n".join(["name,identifier", *lines]).encode()
    headers = {"Content_Type": "text/csv"}
    return live.call("POST", "/api/patients/import/?mode=apply&on_likely=create", body, token, **headers)


def count(live: LiveServer, token: str, query: str = "") -> str:
    return str(live.call("GET", f"/api/patients/?count=true&limit=1{query}", token=token).headers["X-Total-Count"])


def test_two_imports_of_one_file_at_once_create_each_patient_once(live: LiveServer, token: str) -> None:
    for turn in range(TURNS):
        answers = call_concurrently(*[partial(import_file, live, token, turn)] * 2)
        assert {answer.status for answer in answers} <= {200, 409}
        assert 200 in {answer.status for answer in answers}
        assert {answer.json["code"] for answer in answers if answer.status == 409} <= {"import_running"}
        again = import_file(live, token, turn)
        assert again.json["summary"]["skipped"] == ROWS
        assert count(live, token) == str(ROWS * (turn + 1))


def test_a_post_that_refuses_duplicates_and_an_import_create_a_patient_once(live: LiveServer, token: str) -> None:
    for turn in range(TURNS):
        body = {"name": f"Person {turn} 0", "identifier": f"N-{turn}-0"}
        imported, posted = call_concurrently(
            partial(import_file, live, token, turn),
            partial(live.call, "POST", "/api/patients/?on_duplicate=reject", body, token),
        )
        assert imported.status == 200
        assert posted.status in {201, 409, 503}  # 503: the import took longer than a request waits for a lock
        assert count(live, token, f"&identifier=N-{turn}-0") == "1"
