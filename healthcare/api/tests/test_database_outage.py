"""While the database is unavailable: 503 with Retry-After. The first call after its return succeeds."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2
import pytest

from healthcare.tests.contract_matrix import protocol_faults
from healthcare.tests.crash import eventually
from healthcare.tests.live import Answer, LiveServer
from healthcare.tests.superuser import admin_connection

pytestmark = pytest.mark.slow

CONNECTIONS = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
KILL = f"SELECT pg_terminate_backend(pid, 5000) FROM ({CONNECTIONS}) AS connections"  # noqa: S608


@pytest.fixture
def administrator(db: None) -> Iterator[Any]:
    connection = admin_connection()
    yield connection.cursor()
    connection.close()


@pytest.fixture
def database(live: LiveServer, administrator: Any) -> Iterator[str]:
    """The name of the live server's database, which is open again afterwards whatever a test did."""
    name = live.database_url.rpartition("@/")[2].partition("?")[0]
    yield name
    administrator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


@pytest.fixture
def token(live: LiveServer) -> str:
    return live.register()[1]["access"]


def take_away(administrator: Any, database: str) -> None:
    administrator.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
    administrator.execute(KILL, [database])


def is_away(answer: Answer) -> bool:
    assert protocol_faults(answer.status, answer.headers, answer.body) == ["status 503"]
    assert int(answer.headers["Retry-After"]) > 0
    assert not any(word in answer.body for word in (b"FATAL", b"psycopg", b"live_", b"127.0.0.1", b"port"))
    return answer.status == 503


def test_an_outage_is_a_503_that_heals_by_itself(
    live: LiveServer, administrator: Any, database: str, token: str
) -> None:
    take_away(administrator, database)
    login = {"username": "nobody", "password": "nothing"}
    for _ in range(5):  # more than the server has threads
        assert is_away(live.call("GET", "/api/patients/", None, token))
        assert is_away(live.call("POST", "/api/patients/", {"name": "Lost"}, token))
        assert is_away(live.call("POST", "/api/auth/login/", login))
        assert is_away(live.call("GET", "/api/doctors/"))
    administrator.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
    for _ in range(5):
        answer = live.call("GET", "/api/patients/", None, token)
        assert (answer.status, answer.json) == (200, [])
    assert live.call("POST", "/api/auth/login/", login).status == 401


def test_views_without_queries_answer_during_an_outage(live: LiveServer, administrator: Any, database: str) -> None:
    take_away(administrator, database)
    assert [live.call("GET", path).status for path in ("/healthz", "/", "/api/docs/", "/api/schema/")] == [200] * 4
    # It tells the last result of a check that runs every two seconds.
    eventually(lambda: live.call("GET", "/readyz").status == 503)
    assert is_away(live.call("GET", "/readyz"))
    administrator.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
    eventually(lambda: live.call("GET", "/readyz").status == 200)


def test_connections_killed_between_calls_cause_no_error(
    live: LiveServer, administrator: Any, database: str, token: str
) -> None:
    for _ in range(3):
        with ThreadPoolExecutor(8) as callers:
            calls = [callers.submit(live.call, "GET", "/api/patients/", None, token) for _ in range(16)]
            assert {call.result().status for call in calls} == {200}
        administrator.execute(KILL, [database])
        assert administrator.fetchall()
        assert live.call("POST", "/api/patients/", {"name": "Kept"}, token).status == 201
    assert len(live.call("GET", "/api/patients/", None, token).json) == 3


def test_a_connection_killed_during_a_call_is_a_503_and_changes_nothing(
    live: LiveServer, administrator: Any, database: str, token: str
) -> None:
    path = f"/api/patients/{live.call('POST', '/api/patients/', {'name': 'Before'}, token).json['id']}/"
    blocker = psycopg2.connect(live.database_url)
    blocker.cursor().execute("LOCK TABLE patients_patient IN EXCLUSIVE MODE")
    with ThreadPoolExecutor(1) as caller:
        call = caller.submit(live.call, "PATCH", path, {"name": "After"}, token)
        waiting: list[Any] = []
        while not waiting and not call.done():
            administrator.execute(f"{CONNECTIONS} AND wait_event_type = 'Lock'", [database])
            waiting = administrator.fetchall()
            time.sleep(0.01)
        administrator.execute("SELECT pg_terminate_backend(%s)", waiting[0])
        assert is_away(call.result())
    blocker.close()
    assert live.call("GET", path, None, token).json["name"] == "Before"
