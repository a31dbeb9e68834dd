"""Exports from a real server: sent as they are made, and broken off where they cannot go on."""

import csv
import http.client
import io
import json
import socket
from typing import Any

import psycopg2
import pytest

from healthcare.tests.crash import eventually
from healthcare.tests.live import TIMEOUT, LiveServer

pytestmark = pytest.mark.slow

ROWS = 30_000  # more than what the kernel keeps for a client that does not read
ADD = """
    SET session_replication_role = replica;
    INSERT INTO patients_patient (created_by_id, created_at, updated_at, version, name, gender, identifier, identifiers,
        phone, alternate_phone, email, address, language, contacts, medical_history)
    SELECT %s, now(), now(), 1, 'P' || n, 'U', '', '[]', '', '', '', '', '', '[]', repeat('x', 500)
    FROM generate_series(1, %s) AS n"""
# By the lock that lets one export of a user run.
SNAPSHOTS = """
    FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE locktype = 'advisory' AND datname = current_database()"""
ACCESSES = """
    SELECT count(*), sum(cardinality(patient_ids)) FROM audit_accesslog
    WHERE action = 'patient.export' AND request_id = %s"""


@pytest.fixture(scope="module")
def owner(live_server_process: LiveServer) -> tuple[int, str]:
    """The id and the token of a user with many patients."""
    user, tokens = live_server_process.register()
    with psycopg2.connect(live_server_process.database_url) as session, session.cursor() as cursor:
        cursor.execute(ADD, [user["id"], ROWS])
    session.close()
    return user["id"], tokens["access"]


def execute(live: LiveServer, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    session = psycopg2.connect(live.database_url)
    try:
        with session, session.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall()
    finally:
        session.close()


def begin_export(live: LiveServer, token: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """An export of which the client has read little."""
    client = http.client.HTTPConnection(live.host, live.port, timeout=TIMEOUT)
    client.connect()
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    client.request("GET", "/api/patients/export/", headers={"Authorization": f"Bearer {token}"})
    answer = client.getresponse()
    assert answer.status == 200
    assert answer.read(1_000).startswith(b"id,name,")
    return client, answer


def test_a_file_arrives_whole_in_parts(live: LiveServer, owner: tuple[int, str]):
    answer = live.call("GET", "/api/patients/export/?ordering=created_at", token=owner[1])
    assert (answer.status, answer.headers["Transfer-Encoding"]) == (200, "chunked")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="patients.csv"'
    assert "Content-Encoding" not in answer.headers
    rows = list(csv.DictReader(io.StringIO(answer.body.decode(), newline=""), strict=True))
    assert [row["name"] for row in rows] == [f"P{number}" for number in range(1, ROWS + 1)]
    [(batches, patients)] = execute(live, ACCESSES, answer.headers["X-Request-Id"])
    assert batches > ROWS // 1_000
    assert patients == ROWS


def test_others_are_served_while_a_client_does_not_read(live: LiveServer, owner: tuple[int, str]):
    client, answer = begin_export(live, owner[1])
    for _ in range(8):  # more than the threads of a worker
        assert live.call("GET", "/api/patients/?limit=1", token=owner[1]).status == 200
    refused = live.call("GET", "/api/patients/export/", token=owner[1])
    assert (refused.status, refused.headers["Retry-After"]) == (429, "10")
    answer.read()
    client.close()


def test_a_client_that_goes_away_ends_the_export(live: LiveServer, owner: tuple[int, str]):
    client, _ = begin_export(live, owner[1])
    assert len(execute(live, f"SELECT pid {SNAPSHOTS}")) == 1
    client.close()
    eventually(lambda: execute(live, f"SELECT pid {SNAPSHOTS}") == [])
    client, answer = begin_export(live, owner[1])
    assert len(answer.read().splitlines()) > 1
    client.close()


def test_a_database_that_goes_away_breaks_the_connection(live: LiveServer, owner: tuple[int, str]):
    client, answer = begin_export(live, owner[1])
    execute(live, f"SELECT pg_terminate_backend(pid) {SNAPSHOTS}")
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        answer.read()
    client.close()


def test_a_session_that_ends_breaks_the_connection(live: LiveServer, owner: tuple[int, str]):
    user, tokens = live.register()
    session = psycopg2.connect(live.database_url)
    with session, session.cursor() as cursor:
        cursor.execute(ADD, [user["id"], ROWS])
    session.close()
    client, answer = begin_export(live, tokens["access"])
    assert live.call("POST", "/api/auth/logout/", {"refresh": tokens["refresh"]}, tokens["access"]).status == 204
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        answer.read()
    client.close()


def test_doctors_are_exported_without_a_token(live: LiveServer, owner: tuple[int, str]):
    live.call("POST", "/api/doctors/", {"name": "Dr. Export"}, owner[1])
    answer = live.call("GET", "/api/doctors/export/", Accept="application/x-ndjson")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/x-ndjson")
    assert "Dr. Export" in {json.loads(line)["name"] for line in answer.body.splitlines()}
